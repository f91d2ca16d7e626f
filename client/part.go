package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/blocksd/blocksd/network/wire"
)

// Part is one input of a task, made by Text, JSON, File, Bytes or Reader.
type Part struct {
	// ID is that of the input in the agent's card.
	ID string
	// Name of a file, which the agent gets to see.
	Name string
	// MIMEType is that of the content. Empty, it is left out for a text, application/json for a JSON document, and follows
	// from the name for a file.
	MIMEType string

	text *string // of a text or a JSON document
	json bool
	path string // of a file on disk
	open func() (io.ReadCloser, error)
	size int64 // of what open returns, -1 if it is not known before
	err  error // what the constructor could not say
}

// Text is a text.
func Text(id, text string) Part { return Part{ID: id, text: &text} }

// JSON is the input of a form: any value that encodes to JSON. A json.RawMessage is sent as it is.
func JSON(id string, v any) Part {
	p := Part{ID: id, json: true, MIMEType: "application/json"}
	raw, ok := v.(json.RawMessage)
	if !ok {
		raw, p.err = json.Marshal(v)
	} else if !json.Valid(raw) {
		p.err = errors.New("it is not valid JSON")
	}
	if p.err != nil {
		p.err = fmt.Errorf("part %q cannot be sent as JSON: %w", id, p.err)
	}
	text := string(raw)
	p.text = &text
	return p
}

// File is a regular file on disk, opened when it is sent.
func File(id, path string) Part { return Part{ID: id, Name: filepath.Base(path), path: path} }

// Bytes is a file in memory; data must not change until Send returns.
func Bytes(id, name string, data []byte) Part {
	return Part{
		ID: id, Name: name, size: int64(len(data)),
		open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// Reader is a file that open returns from its beginning. It is called more than once: to measure a file whose reader has
// neither Len, Stat nor Seek, and to repeat an upload that failed.
func Reader(id, name string, open func() (io.ReadCloser, error)) Part {
	return Part{ID: id, Name: name, open: open, size: -1}
}

// IsFile reports whether the part is a file and not a text or a JSON document.
func (p Part) IsFile() bool { return p.text == nil }

// check returns what is wrong with the part, before anything is sent.
func (p Part) check() error {
	switch {
	case p.ID == "":
		return errors.New("a part has no id: give it the id of an input of the agent's card")
	case p.err != nil:
		return p.err
	case p.text != nil && !utf8.ValidString(*p.text):
		return fmt.Errorf("the text of part %q is not valid UTF-8: send it as a file, with client.Bytes", p.ID)
	case p.text == nil && p.path == "" && p.open == nil:
		return fmt.Errorf("part %q has no content: make it with client.Text, JSON, File, Bytes or Reader", p.ID)
	case p.path == "":
		return nil
	}
	info, err := os.Stat(p.path)
	if err != nil {
		return fmt.Errorf("read the file of part %q: %w", p.ID, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("read the file of part %q: %s is not a regular file", p.ID, p.path)
	}
	return nil
}

// file is the file of a part; open may be called more than once.
type file struct {
	name, mimeType string
	size           int64
	open           func() (io.ReadCloser, error)
}

func (p Part) file() (file, error) {
	f := file{name: p.Name, mimeType: p.MIMEType, size: p.size, open: p.open}
	if p.path != "" {
		f.size = -1
		f.open = func() (io.ReadCloser, error) { return os.Open(p.path) }
	}
	if f.name == "" {
		f.name = "attachment"
	}
	if f.mimeType == "" {
		f.mimeType = mimeTypeOf(f.name)
	}
	if f.size >= 0 {
		return f, nil
	}
	r, err := f.open()
	if err != nil {
		return f, err
	}
	if r == nil {
		return f, errors.New("its function returned no reader")
	}
	defer r.Close()
	f.size, err = sizeOf(r)
	return f, err
}

// sizeOf measures what a reader has, and reads it only if there is no other way.
func sizeOf(r io.Reader) (int64, error) {
	switch r := r.(type) {
	case interface{ Stat() (os.FileInfo, error) }:
		if info, err := r.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size(), nil
		}
	case interface{ Len() int }:
		return int64(r.Len()), nil
	case io.Seeker:
		if n, err := r.Seek(0, io.SeekEnd); err == nil {
			return n, nil
		}
	}
	return io.Copy(io.Discard, r)
}

func mimeTypeOf(name string) string {
	if t := mime.TypeByExtension(filepath.Ext(name)); t != "" {
		return t
	}
	return wire.DefaultMIMEType
}

// readAll reads a file that should have at most limit bytes.
func readAll(f file, limit int64) ([]byte, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// A file may grow while it is read; the message must not exceed its limit.
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errors.New("it grew while it was read: send it again when it is complete")
	}
	return data, err
}
