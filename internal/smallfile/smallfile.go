// Package smallfile reads files that people and their tools write. Whatever a path names, it neither waits long nor reads
// much: a device may have no end, and a pipe no writer. Errors do not name the path; each ends a sentence about it.
package smallfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// PipeTimeout is how long the writer of a pipe may take.
const PipeTimeout = 5 * time.Second

// pipePoll is the pause between two looks at a pipe that has no writer yet.
const pipePoll = 10 * time.Millisecond

// Errors of what cannot be read.
var (
	ErrNoFile   = errors.New("it is not a regular file")
	ErrNoWriter = fmt.Errorf("it is a pipe, and nothing was written to it within %s: check what writes it", PipeTimeout)
)

// Read returns the content of a regular file of at most limit bytes.
func Read(path string, limit int) ([]byte, error) {
	f, info, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !info.Mode().IsRegular() {
		return nil, ErrNoFile
	}
	return all(f, limit)
}

// ReadOrWait is Read, and also reads a pipe, to its end.
func ReadOrWait(path string, limit int) ([]byte, error) {
	f, info, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	switch {
	case info.Mode().IsRegular():
		return all(f, limit)
	case info.Mode()&fs.ModeNamedPipe == 0:
		return nil, fmt.Errorf("%w, nor a pipe", ErrNoFile)
	}
	deadline := time.Now().Add(PipeTimeout)
	if err := f.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	for {
		b, err := all(f, limit)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), err == nil && len(b) == 0 && time.Now().After(deadline):
			return nil, ErrNoWriter
		case err != nil || len(b) > 0:
			return b, err
		}
		time.Sleep(pipePoll) // nobody has opened it for writing yet
	}
}

// open opens a file without waiting for the writer of a pipe. A device is not opened: that alone may have effects.
func open(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, bare(err)
	}
	if !info.Mode().IsRegular() && info.Mode()&fs.ModeNamedPipe == 0 {
		return nil, nil, ErrNoFile
	}
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, nil, bare(err)
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, nil, bare(err)
	}
	return f, info, nil
}

func all(r io.Reader, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	if err != nil {
		return nil, bare(err)
	}
	return b, nil
}

// bare takes the path off an error.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
