package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
)

// Part is one input of a task. ID and exactly one of Text, JSON, Path and Data are required.
type Part struct {
	ID   string
	Text *string
	// JSON is sent as text with the type application/json.
	JSON json.RawMessage
	// Path of a regular file on disk.
	Path string
	// Data is the content of a file; an empty slice is an empty file, nil is no file.
	Data []byte
	// Name of the file, default the base name of Path.
	Name string
	// MIMEType defaults to text/plain or application/json; for a file it follows from the name.
	MIMEType string
}

// check returns an error for an invalid part, before anything is sent.
func (p Part) check() error {
	if p.ID == "" {
		return errors.New("a part has no id")
	}
	n := 0
	for _, given := range []bool{p.Text != nil, p.JSON != nil, p.Path != "", p.Data != nil} {
		if given {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("part %q must have exactly one of text, JSON, path and data, not %d", p.ID, n)
	}
	if p.JSON != nil && !json.Valid(p.JSON) {
		return fmt.Errorf("part %q is not valid JSON", p.ID)
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
	f := file{name: p.Name, mimeType: p.MIMEType, size: int64(len(p.Data))}
	f.open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(p.Data)), nil }
	if p.Path != "" {
		info, err := os.Stat(p.Path)
		if err != nil {
			return file{}, fmt.Errorf("read the file of part %q: %w", p.ID, err)
		}
		if !info.Mode().IsRegular() {
			return file{}, fmt.Errorf("read the file of part %q: %s is not a regular file", p.ID, p.Path)
		}
		f.size = info.Size()
		f.open = func() (io.ReadCloser, error) { return os.Open(p.Path) }
		if f.name == "" {
			f.name = filepath.Base(p.Path)
		}
	}
	if f.name == "" {
		f.name = "attachment"
	}
	if f.mimeType == "" {
		f.mimeType = mime.TypeByExtension(filepath.Ext(f.name))
	}
	if f.mimeType == "" {
		f.mimeType = wire.DefaultMIMEType
	}
	return f, nil
}

// send converts parts for the message: texts and small files go inside it; larger files are uploaded now.
func (c *TaskClient) send(ctx context.Context, agent string, parts []Part) (out []wire.Part, uploadSession string, err error) {
	for _, p := range parts {
		w := wire.Part{PartID: p.ID, ContentType: p.MIMEType}
		switch {
		case p.Text != nil:
			w.Text = p.Text
			if w.ContentType == "" {
				w.ContentType = "text/plain"
			}
		case p.JSON != nil:
			text := string(p.JSON)
			w.Text = &text
			if w.ContentType == "" {
				w.ContentType = "application/json"
			}
		default:
			f, err := p.file()
			if err != nil {
				return nil, "", err
			}
			w.ContentType = f.mimeType
			if f.size > wire.DefaultInlineLimit {
				uploadSession, err = c.consumer.UploadInput(ctx, backend.Upload{
					AgentName: agent, PartID: p.ID, SessionID: uploadSession,
					FileName: f.name, MIMEType: f.mimeType, Size: f.size, Open: f.open,
				})
				if err != nil {
					return nil, "", err
				}
				break
			}
			data, err := readAll(f)
			if err != nil {
				return nil, "", fmt.Errorf("read the file of part %q: %w", p.ID, err)
			}
			ref := wire.InlineRef(wire.Artifact{FileName: f.name, MIMEType: f.mimeType, Data: data})
			w.File = &ref
		}
		out = append(out, w)
	}
	return out, uploadSession, nil
}

func readAll(f file) ([]byte, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// A file may grow while it is read; the message must not exceed its limit.
	data, err := io.ReadAll(io.LimitReader(r, wire.DefaultInlineLimit+1))
	if err == nil && len(data) > wire.DefaultInlineLimit {
		err = errors.New("it grew while it was read")
	}
	return data, err
}
