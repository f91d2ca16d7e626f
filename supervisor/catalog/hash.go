package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxProgram is the largest program that is read. A sparse file can claim any size, and would be read for hours.
const maxProgram = 4 << 30

// openFile opens a regular file of at most maxProgram bytes. Anything else, a pipe say, might never let go of its reader.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is not a file")
	case info.Size() > maxProgram:
		err = fmt.Errorf("it has %d bytes, and a program may have %d", info.Size(), int64(maxProgram))
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return f, nil
}

// Hash returns the SHA-256 of a file in hexadecimal.
func Hash(path string) (string, error) {
	f, err := openFile(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Hashes remembers the checksums of files, and reads a file again only when it has changed. Its zero value is ready, and it
// is safe for concurrent use.
type Hashes struct {
	mu    sync.Mutex
	known map[string]known // by path; guarded by mu
}

type known struct {
	id  identity
	sum string
}

// identity changes whenever a file's content may have.
type identity struct {
	device, inode uint64
	size          int64
	changed       time.Time
}

// Of returns the SHA-256 of a file in hexadecimal.
func (h *Hashes) Of(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	id := identityOf(info)
	h.mu.Lock()
	k, ok := h.known[path]
	h.mu.Unlock()
	if ok && k.id == id {
		return k.sum, nil
	}
	sum, err := Hash(path)
	if err != nil {
		return "", err
	}
	// A change within the same tick of the clock would not show in the identity, unless the file is read-only.
	if info.Mode().Perm()&0o222 == 0 || time.Since(id.changed) > clockTick {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.known == nil {
			h.known = map[string]known{}
		}
		h.known[path] = known{id, sum}
	}
	return sum, nil
}

// clockTick is how old a time of change must be for a later change to have another one, on any file system.
const clockTick = 2 * time.Second
