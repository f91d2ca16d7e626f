package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/blocksd/blocksd/network/wire"
)

// maxSameName bounds how many files with the same name Save writes into one directory.
const maxSameName = 10_000

// Download opens an artifact of the task. The caller closes it.
func (s *Session) Download(ctx context.Context, ref wire.ArtifactRef) (io.ReadCloser, error) {
	what := fmt.Sprintf("download artifact %q of task %s", ref.FileName, s.taskID)
	switch ref.Kind {
	case wire.RefInline:
		if ref.Data == nil && ref.Size == 0 {
			return io.NopCloser(bytes.NewReader(nil)), nil
		}
		data, err := ref.Inline()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	case wire.RefFile:
		var body io.ReadCloser
		err := s.withToken(ctx, func(token string) (err error) {
			body, _, err = s.link.OpenFile(ctx, ref.Channel, ref.FileID, ref.FileName, token)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return body, nil
	}
	return nil, fmt.Errorf("%s: this version does not know artifacts of kind %q", what, ref.Kind)
}

// Save downloads all artifacts that the task has published so far into dir, and returns their paths in the order of
// publication. It creates dir if needed. It uses only the last element of a file name, so that it never writes outside
// dir, adds the extension of the media type to a name that has none, and never overwrites a file: the new file gets a
// number. On an error it also returns the paths of complete files.
func (s *Session) Save(ctx context.Context, dir string) ([]string, error) {
	ctx, done, err := s.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("save artifacts of task %s: %w", s.taskID, err)
	}
	defer done()
	stored, err := s.history(ctx)
	if err != nil {
		return nil, fmt.Errorf("save artifacts of task %s: %w", s.taskID, s.cause(ctx, err))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("save artifacts of task %s: %w", s.taskID, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("save artifacts of task %s: %w", s.taskID, err)
	}
	defer root.Close()
	var paths []string
	index := 0
	for _, m := range stored {
		e, err := wire.DecodeEvent(m.Body)
		if err != nil {
			continue
		}
		if e.Type == wire.EventTerminal {
			break
		}
		if e.Type != wire.EventArtifact || e.Artifact == nil {
			continue
		}
		name, err := s.saveOne(ctx, root, *e.Artifact, withExtension(fileName(e.Artifact.FileName, index), e.Artifact.MIMEType))
		if err != nil {
			return paths, fmt.Errorf("save artifacts of task %s in %s: %w", s.taskID, dir, err)
		}
		paths = append(paths, filepath.Join(dir, name))
		index++
	}
	return paths, nil
}

func (s *Session) saveOne(ctx context.Context, root *os.Root, ref wire.ArtifactRef, name string) (string, error) {
	body, err := s.Download(ctx, ref)
	if err != nil {
		return "", err
	}
	defer body.Close()
	f, name, err := createNew(root, name)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, body)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = root.Remove(name) // a partial file is worse than none
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return name, nil
}

// createNew creates a file that does not exist yet: name.ext, "name (2).ext", "name (3).ext" and so on.
func createNew(root *os.Root, name string) (*os.File, string, error) {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if stem == "" { // ".profile" has no extension
		stem, ext = name, ""
	}
	try := name
	for n := 2; ; n++ {
		f, err := root.OpenFile(try, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			return f, try, nil
		}
		if !errors.Is(err, fs.ErrExist) || n > maxSameName {
			return nil, "", err
		}
		try = stem + " (" + strconv.Itoa(n) + ")" + ext
	}
}

// fileName makes a provider's file name safe: the last element of a Unix or Windows path, without control characters, and
// short enough for a file system.
func fileName(sent string, index int) string {
	const limit = 200 // bytes; file systems allow 255, and Save may add a number
	name := sent[strings.LastIndexAny(sent, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, name)
	name = strings.TrimSpace(name)
	if strings.Trim(name, ".") == "" {
		return "artifact-" + strconv.Itoa(index)
	}
	if len(name) > limit {
		ext := path.Ext(name)
		if len(ext) > 20 {
			ext = ""
		}
		name = strings.ToValidUTF8(name[:limit-len(ext)], "") + ext
	}
	return name
}
