package pluginsdk

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/blocksd/blocksd/internal/savedir"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// CallArtifact is an output of a called task.
type CallArtifact struct {
	OutputID, FileName, MIMEType string
	Size                         int64

	index int
}

// Artifacts returns the artifacts that have been seen so far.
func (s *Session) Artifacts() []CallArtifact {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []CallArtifact
	for _, e := range s.events {
		var m struct {
			OutputID    string
			ArtifactRef *struct {
				FileName, MIMEType string
				Size               int64
			}
		}
		if e.Type != "artifact" || json.Unmarshal(e.Raw, &m) != nil || m.ArtifactRef == nil {
			continue
		}
		out = append(out, CallArtifact{m.OutputID, m.ArtifactRef.FileName, m.ArtifactRef.MIMEType, m.ArtifactRef.Size, len(out)})
	}
	return out
}

// Download gets an artifact as a whole.
func (s *Session) Download(ctx context.Context, a CallArtifact) ([]byte, error) {
	r, err := s.Open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Open starts the download of an artifact. Only a reader that ends with io.EOF has delivered it. The caller closes it.
func (s *Session) Open(ctx context.Context, a CallArtifact) (io.ReadCloser, error) {
	client, err := s.host.dial()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(s.host.authorized(ctx))
	r := &callReader{what: fmt.Sprintf("download artifact %q of task %s", a.FileName, s.taskID), cancel: cancel}
	stream, err := client.DownloadCallArtifact(ctx, &handlerv1.DownloadCallArtifactRequest{
		TaskId: s.caller.ID, CalledTaskId: s.taskID, ArtifactIndex: int32(a.index),
	})
	if err == nil {
		r.next = stream.Recv
		var first *handlerv1.DownloadCallArtifactResponse
		if first, err = stream.Recv(); err == nil {
			r.rest = first.GetData()
		}
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%s: %w", r.what, said(err))
	}
	return r, nil
}

// Save downloads the artifacts that have been seen so far into dir, and returns their paths in the order of publication. It
// creates dir if needed. It uses only the last element of a file name, so that it never writes outside dir, no name begins
// with a dot or a dash, and the extension of the media type is added to a name that has none. It never overwrites a file:
// the new file gets a number. A file has its name only when it is complete. On an error it also returns the paths of
// complete files.
func (s *Session) Save(ctx context.Context, dir string) ([]string, error) {
	fail := func(err error) error { return fmt.Errorf("save artifacts of task %s in %s: %w", s.taskID, dir, err) }
	to, err := savedir.Open(dir)
	if err != nil {
		return nil, fail(err)
	}
	defer to.Close()
	var paths []string
	for _, a := range s.Artifacts() {
		path, err := s.saveOne(ctx, to, a)
		if err != nil {
			return paths, fail(err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (s *Session) saveOne(ctx context.Context, to *savedir.Dir, a CallArtifact) (string, error) {
	r, err := s.Open(ctx, a)
	if err != nil {
		return "", err
	}
	defer r.Close()
	return to.Save(savedir.Name(a.FileName, a.MIMEType, a.index), r)
}

// callReader is an artifact that is being downloaded.
type callReader struct {
	what   string
	next   func() (*handlerv1.DownloadCallArtifactResponse, error)
	cancel context.CancelFunc
	rest   []byte
	err    error
}

// Read implements io.Reader.
func (r *callReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		m, err := r.next()
		switch {
		case err == io.EOF:
			r.err = io.EOF
		case err != nil:
			r.err = fmt.Errorf("%s: %w", r.what, said(err))
		default:
			r.rest = m.GetData()
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends the download.
func (r *callReader) Close() error {
	r.cancel()
	return nil
}
