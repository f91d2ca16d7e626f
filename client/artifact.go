package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// Artifact is an output of a task.
type Artifact struct {
	// OutputID is that of the output in the agent's card; may be empty.
	OutputID string
	// FileName, MIMEType, Size and Hash are what the agent says. The name is not safe to use as a path; Save makes one.
	FileName, MIMEType string
	Size               int64
	Hash               string
	// Ref is the reference as it came.
	Ref wire.ArtifactRef

	index int // among the task's
}

// Downloaded is the content of an artifact.
type Downloaded struct {
	FileName, MIMEType string
	Data               []byte
}

// Artifacts returns the artifacts that have been seen so far: by Events or Wait, or, where nobody follows the task, by
// reading its history now.
func (s *Session) Artifacts() []Artifact {
	var out []Artifact
	for _, e := range s.snapshot() {
		if e.Type == EventArtifact && e.Artifact != nil {
			out = append(out, artifactOf(e, len(out)))
		}
	}
	return out
}

func artifactOf(e Event, index int) Artifact {
	r := *e.Artifact
	return Artifact{OutputID: e.OutputID, FileName: r.FileName, MIMEType: r.MIMEType, Size: r.Size, Hash: r.Hash, Ref: r, index: index}
}

// Download gets an artifact as a whole.
func (s *Session) Download(ctx context.Context, a Artifact) (Downloaded, error) {
	r, err := s.Open(ctx, a)
	if err != nil {
		return Downloaded{}, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return Downloaded{}, err
	}
	return Downloaded{FileName: a.FileName, MIMEType: a.MIMEType, Data: data}, nil
}

// Open starts the download of an artifact. A transfer that breaks off is resumed where it stood. At the end the size and
// the hash are compared with what the agent says, so only a reader that ends with io.EOF has delivered the artifact. The
// caller closes it. ctx is for all of it.
func (s *Session) Open(ctx context.Context, a Artifact) (io.ReadCloser, error) {
	r, err := s.open(ctx, a)
	if err != nil {
		return nil, s.downloadError(a, err)
	}
	return &checkedReader{r: r, fail: func(err error) error { return s.downloadError(a, err) }, size: a.Size, known: a.Size > 0, hash: newHash(a.Hash), want: a.Hash}, nil
}

func (s *Session) downloadError(a Artifact, err error) error {
	return &DownloadError{TaskID: s.taskID, FileName: a.FileName, Status: statusOf(err), err: err}
}

func (s *Session) open(ctx context.Context, a Artifact) (io.ReadCloser, error) {
	switch ref := a.Ref; ref.Kind {
	case wire.RefInline:
		if ref.Data == nil && ref.Size == 0 {
			return io.NopCloser(bytes.NewReader(nil)), nil
		}
		data, err := ref.Inline()
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	case wire.RefFile:
		r := &resumedReader{ctx: ctx, open: func(ctx context.Context, offset int64) (io.ReadCloser, error) { return s.openFile(ctx, ref, offset) }}
		return r, r.begin()
	default:
		return nil, fmt.Errorf("this version does not know artifacts of kind %q", ref.Kind)
	}
}

// openFile opens a stored file at an offset, with a new token if the old one is refused.
func (s *Session) openFile(ctx context.Context, ref wire.ArtifactRef, offset int64) (body io.ReadCloser, err error) {
	err = s.withToken(ctx, func(token string) (err error) {
		body, err = s.link.OpenFileAt(ctx, link.File{Channel: ref.Channel, ID: ref.FileID, Name: ref.FileName}, offset, token)
		return err
	})
	return body, err
}

// resumes is how often in a row a transfer may break off without bringing anything.
const resumes = 4

// resumedReader goes on with another request when a transfer breaks off.
type resumedReader struct {
	ctx    context.Context // of the caller of Open; a reader has no other place for it
	open   func(ctx context.Context, offset int64) (io.ReadCloser, error)
	body   io.ReadCloser
	offset int64
	broken int // in a row
}

func (r *resumedReader) begin() (err error) {
	r.body, err = r.open(r.ctx, r.offset)
	return err
}

func (r *resumedReader) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.offset += int64(n)
		if n > 0 {
			r.broken = 0
		}
		if err == nil || err == io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil // the next call meets the break again
		}
		if r.ctx.Err() != nil {
			return 0, context.Cause(r.ctx)
		}
		if r.broken++; r.broken > resumes {
			return 0, err
		}
		r.body.Close()
		if openErr := r.begin(); openErr != nil {
			r.body = http.NoBody
			return 0, fmt.Errorf("%w, and it could not be resumed: %w", err, openErr)
		}
	}
}

func (r *resumedReader) Close() error { return r.body.Close() }

// checkedReader compares what it passes on with what was announced.
type checkedReader struct {
	r     io.ReadCloser
	fail  func(error) error
	n     int64
	size  int64
	known bool      // size is announced
	hash  hash.Hash // nil for none, or one that we do not know
	want  string
	err   error // what every further Read returns
}

var errChanged = errors.New("get it again, or ask its agent")

func (c *checkedReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.hash != nil {
		c.hash.Write(p[:n])
	}
	switch {
	case c.known && c.n > c.size:
		err = fmt.Errorf("it is longer than the %d bytes that were announced: %w", c.size, errChanged)
	case err == nil:
		return n, nil
	case err == io.EOF && c.known && c.n != c.size:
		err = fmt.Errorf("it has %d bytes and %d were announced: %w", c.n, c.size, errChanged)
	case err == io.EOF && c.hash != nil:
		if _, want, _ := strings.Cut(c.want, ":"); !strings.EqualFold(want, hex.EncodeToString(c.hash.Sum(nil))) {
			err = fmt.Errorf("its content does not have the hash that was announced: %w", errChanged)
		}
	}
	if c.err = err; err != io.EOF {
		c.err = c.fail(err)
	}
	return n, c.err
}

func (c *checkedReader) Close() error { return c.r.Close() }

// newHash is for a hash written as "sha256:" and hexadecimal digits; nil for any other form.
func newHash(text string) hash.Hash {
	name, digits, _ := strings.Cut(text, ":")
	if _, err := hex.DecodeString(digits); err != nil {
		return nil
	}
	switch {
	case strings.EqualFold(name, "sha256") && len(digits) == 2*sha256.Size:
		return sha256.New()
	case strings.EqualFold(name, "sha512") && len(digits) == 2*sha512.Size:
		return sha512.New()
	}
	return nil
}
