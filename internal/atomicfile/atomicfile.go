// Package atomicfile writes files that appear whole or not at all, also after a crash or a power cut.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// File is a file that does not stand under its name yet. It is written like any other; Commit or Close must follow.
type File struct {
	*os.File
	path string
	done bool
}

const tempMark = ".tmp-"

// IsTemp reports whether a file of this name is one that was never committed, so that the owner of a directory may sweep it.
func IsTemp(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, tempMark)
}

// Create begins a file that Commit will put at path, in place of what is there. It has exactly these permissions, whatever
// the umask.
func Create(path string, mode fs.FileMode) (*File, error) {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+tempMark)
	if err != nil {
		return nil, err
	}
	f := &File{File: temp, path: path}
	if err := temp.Chmod(mode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Commit closes the file and puts it at its path. When it returns nil, the file survives a power cut.
func (f *File) Commit() error {
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.CommitVolatile(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// CommitVolatile is Commit without waiting for the disk: for files that are of no use after a power cut.
func (f *File) CommitVolatile() error {
	if f.done {
		return fs.ErrClosed
	}
	f.done = true
	err := f.File.Close()
	if err == nil {
		err = os.Rename(f.Name(), f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Close removes a file that was not committed. After Commit it does nothing.
func (f *File) Close() error {
	if f.done {
		return nil
	}
	f.done = true
	return errors.Join(f.File.Close(), os.Remove(f.Name()))
}

// Write puts content at path, durably, in place of what is there.
func Write(path string, content []byte, mode fs.FileMode) error {
	f, err := Create(path, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Commit()
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
