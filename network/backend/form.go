package backend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/textproto"
	"time"
)

// form is a multipart form around a file that is not held in memory.
type form struct {
	head, tail  []byte // before and behind the bytes of the file
	contentType string
}

// newForm writes the fields in their order and then the head of a part named "file". The boundary is random, so that no
// file can contain it, and names are escaped, so that none can break out of its header.
func newForm(fields []formField, fileName, mimeType string) (form, error) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for _, f := range fields {
		if err := w.WriteField(f.name, f.value); err != nil {
			return form{}, err
		}
	}
	_, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition("file", fileName)},
		"Content-Type":        {headerText(mimeType)},
	})
	if err != nil {
		return form{}, err
	}
	head := bytes.Clone(buf.Bytes())
	if err := w.Close(); err != nil {
		return form{}, err
	}
	return form{head: head, tail: bytes.Clone(buf.Bytes()[len(head):]), contentType: w.FormDataContentType()}, nil
}

// headerText leaves out what cannot stand in a header line.
func headerText(s string) string {
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, []byte(s)))
}

var errStalled = errors.New("the transfer stood still for too long")

// stallWatch ends a context when nothing has happened for some time.
type stallWatch struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
	limit  time.Duration
}

func newStallWatch(ctx context.Context, limit time.Duration) (context.Context, *stallWatch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &stallWatch{time.AfterFunc(limit, func() { cancel(errStalled) }), cancel, limit}
}

func (w *stallWatch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// watchedReader notifies its watch of every read.
type watchedReader struct {
	r     io.Reader
	watch *stallWatch
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.watch.timer.Reset(r.watch.limit)
	return n, err
}
