package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"syscall"
)

// Opened is a program that is about to be executed, by its descriptor: what was hashed is what is executed, whatever its path
// leads to by then. While it is open nobody can write over it, as far as the kernel gives this process a lease for that.
type Opened struct {
	// Sum is the SHA-256 of what it holds, in hexadecimal.
	Sum string

	path    string
	lease   *os.File // what was hashed
	program *os.File // the same once more: a lease would last as long as any process has what it was given on
	id      identity
}

// ErrBeingWritten is what Open returns for a program that somebody has open for writing: he could write over it after it was
// hashed, and close it before it is executed.
var ErrBeingWritten = errors.New("it is open for writing")

// Open opens a program and hashes it. Close must follow.
func Open(path string) (*Opened, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	if !leased(f) { // for others' files there is none, nor a refusal: those of root, say, if this process is not
		f.Close()
		return nil, ErrBeingWritten
	}
	o := &Opened{path: path, lease: f}
	if err := o.read(); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func (o *Opened) read() (err error) {
	info, err := o.lease.Stat()
	if err != nil {
		return err
	}
	o.id = identityOf(info)
	h := sha256.New()
	if _, err := io.Copy(h, o.lease); err != nil {
		return err
	}
	o.Sum = hex.EncodeToString(h.Sum(nil))
	o.program, err = reopen(o.lease, o.path)
	return err
}

// File is what to execute, nil where programs cannot be executed by a descriptor. It is closed with o.
func (o *Opened) File() *os.File { return o.program }

// Changed reports whether the path leads to something else by now, or to the same with another content.
func (o *Opened) Changed() bool {
	info, err := os.Stat(o.path)
	return err != nil || identityOf(info) != o.id
}

// Close lets others write again.
func (o *Opened) Close() {
	o.lease.Close()
	if o.program != nil {
		o.program.Close()
	}
}

func identityOf(info os.FileInfo) identity {
	st := info.Sys().(*syscall.Stat_t)
	return identity{uint64(st.Dev), st.Ino, st.Size, changeTime(st)}
}
