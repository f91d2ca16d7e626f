// Package blob keeps the bytes of files that are too large to travel in a message, on disk, in a private directory that
// goes with the store.
package blob

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/blocksd/blocksd/internal/atomicfile"
)

// ErrTooLarge is returned by Write for more bytes than were announced.
var ErrTooLarge = errors.New("file is larger than announced")

// Store of blobs. It is safe for concurrent use.
type Store struct {
	parent string

	mu   sync.Mutex // guards dir
	dir  string     // made at first use
	kept bool       // the directory outlives the store
}

// New returns a store that makes its directory below parent ("" is the system's temporary directory) when the
// first blob is written.
func New(parent string) *Store { return &Store{parent: parent} }

// Keep returns a store in a directory that exists and outlives it.
func Keep(dir string) *Store { return &Store{dir: dir, kept: true} }

// ID returns a name for a blob that nobody can guess.
func ID() string { return rand.Text() }

// Ours reports whether a name is one that Write gives to files of blobs with an ID, whole or partial.
func Ours(name string) bool {
	if atomicfile.IsTemp(name) {
		name = strings.TrimPrefix(name, ".")
		name = name[:min(len(name), len(ID()))]
	}
	return len(name) == len(ID()) && strings.Trim(name, idLetters) == ""
}

const idLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // of rand.Text

func (s *Store) directory() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" {
		dir, err := os.MkdirTemp(s.parent, "blocksd-sandbox-")
		if err != nil {
			return "", fmt.Errorf("make directory for files: %w", err)
		}
		s.dir = dir
	}
	return s.dir, nil
}

// Write stores what r yields, at most limit bytes, under id, replacing what was there. Only whole blobs are stored.
func (s *Store) Write(id string, r io.Reader, limit int64) (size int64, err error) {
	dir, err := s.directory()
	if err != nil {
		return 0, err
	}
	f, err := atomicfile.Create(filepath.Join(dir, filepath.Base(id)), 0o600)
	if err != nil {
		return 0, fmt.Errorf("store file: %w", err)
	}
	defer f.Close() // does nothing after the commit
	size, err = io.Copy(f, io.LimitReader(r, limit+1))
	if err == nil && size > limit {
		return 0, ErrTooLarge
	}
	if err == nil {
		err = f.CommitVolatile() // who uploads does not wait for the disk
	}
	if err != nil {
		return 0, fmt.Errorf("store file: %w", err)
	}
	return size, nil
}

// Open returns a blob for reading.
func (s *Store) Open(id string) (*os.File, error) {
	dir, err := s.directory()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, filepath.Base(id)))
	if err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("open file: %w", os.ErrNotExist), f.Close())
	}
	return f, nil
}

// Remove deletes a blob, if it exists.
func (s *Store) Remove(id string) error {
	s.mu.Lock()
	dir := s.dir
	s.mu.Unlock()
	if dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(dir, filepath.Base(id))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove file: %w", err)
	}
	return nil
}

// Close deletes everything, unless it is kept.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" || s.kept {
		return nil
	}
	dir := s.dir
	s.dir = ""
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove files: %w", err)
	}
	return nil
}
