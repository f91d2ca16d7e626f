package client

import (
	"context"
	"fmt"
	"io"

	"github.com/blocksd/blocksd/internal/savedir"
)

// Save downloads the artifacts that the task has published so far into dir, and returns their paths in the order of
// publication. It creates dir if needed. It uses only the last element of a file name, so that it never writes outside
// dir, no name begins with a dot, and the extension of the media type is added to a name that has none. It never
// overwrites a file: the new file gets a number. A file has its name only when it is complete. On an error it also
// returns the paths of complete files.
func (s *Session) Save(ctx context.Context, dir string, options ...SaveOption) ([]string, error) {
	var o saveOptions
	for _, set := range options {
		set(&o)
	}
	fail := func(err error) error {
		return fmt.Errorf("save artifacts of task %s in %s: %w", s.taskID, dir, err)
	}
	to, err := savedir.Open(dir)
	if err != nil {
		return nil, fail(err)
	}
	defer to.Close()
	s.mu.Lock()
	known := s.log.ended
	s.mu.Unlock()
	if !known {
		if err := s.readHistory(ctx); err != nil {
			return nil, fail(translate(err))
		}
	}
	var paths []string
	for i, a := range s.Artifacts() {
		path, err := s.saveOne(ctx, to, a, i, o)
		if err != nil {
			return paths, fail(err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (s *Session) saveOne(ctx context.Context, to *savedir.Dir, a Artifact, index int, o saveOptions) (string, error) {
	body, err := s.Open(ctx, a)
	if err != nil {
		return "", err
	}
	defer body.Close()
	return to.Save(savedir.Name(a.FileName, a.MIMEType, index), &countedReader{Reader: body, a: a, progress: o.progress})
}

// SaveOption is an option of Save.
type SaveOption func(*saveOptions)

type saveOptions struct{ progress func(a Artifact, done int64) }

// SaveProgress calls f while an artifact is downloaded, with how many bytes have been written so far. It must not block.
func SaveProgress(f func(a Artifact, done int64)) SaveOption {
	return func(o *saveOptions) { o.progress = f }
}

// countedReader says how much has been read of an artifact.
type countedReader struct {
	io.Reader
	a        Artifact
	done     int64
	progress func(a Artifact, done int64)
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.done += int64(n); n > 0 && r.progress != nil {
		r.progress(r.a, r.done)
	}
	return n, err
}
