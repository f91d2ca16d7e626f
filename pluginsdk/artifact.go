package pluginsdk

import (
	"bytes"
	"context"
	"fmt"
	"io"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// Artifact is one output.
type Artifact struct {
	// OutputID matches an output of the card; may be empty, like FileName.
	OutputID string
	FileName string
	// MIMEType is application/octet-stream when empty.
	MIMEType string
	Data     []byte
	// Body is read instead when Data is nil.
	Body io.Reader
}

// Text returns an artifact of type text/plain.
func Text(s string) Artifact { return Artifact{MIMEType: "text/plain", Data: []byte(s)} }

// chunkSize is what one message carries of an artifact.
const chunkSize = 256 << 10

// Send publishes an artifact as part of the task's answer: in order with statuses and other artifacts, before the task
// completes. The task fails if it cannot be published. Send returns when the daemon has taken the data.
func (t *Task) Send(a Artifact) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return ErrTaskEnded
	}
	return a.chunks(func(c *handlerv1.ArtifactChunk) error {
		if err := t.send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Artifact{Artifact: c}}); err != nil {
			return fmt.Errorf("send an artifact of task %s: %w", t.ID, err)
		}
		return nil
	})
}

// Publish publishes an artifact while the task goes on and returns when the network has it. It comes after every status
// and artifact that was given to Status and Send before. After an error it is not known whether consumers see the
// artifact: do not simply repeat it.
func (t *Task) Publish(ctx context.Context, a Artifact) error {
	t.mu.Lock()
	after := t.sent
	t.mu.Unlock()
	return t.host.publish(ctx, t.ID, after, a)
}

// chunks cuts an artifact into messages; the first one carries its description, the last one is marked.
func (a Artifact) chunks(emit func(*handlerv1.ArtifactChunk) error) error {
	body := a.Body
	if a.Data != nil || body == nil {
		body = bytes.NewReader(a.Data)
	}
	info := &handlerv1.ArtifactInfo{OutputId: a.OutputID, MimeType: a.MIMEType, FileName: a.FileName}
	// One chunk is read ahead, because the last one must say so.
	next, err := readChunk(body)
	for {
		if err != nil && err != io.EOF {
			return fmt.Errorf("read an artifact: %w", err)
		}
		c := &handlerv1.ArtifactChunk{Info: info, Data: next, Last: err == io.EOF}
		if !c.Last {
			if next, err = readChunk(body); err == io.EOF && len(next) == 0 {
				c.Last = true
			}
		}
		if err := emit(c); err != nil || c.Last {
			return err
		}
		info = nil
	}
}

// readChunk returns io.EOF together with the last bytes.
func readChunk(r io.Reader) ([]byte, error) {
	if b, ok := r.(*bytes.Reader); ok && b.Len() <= chunkSize { // no need for a whole buffer
		data := make([]byte, b.Len())
		_, _ = b.Read(data)
		return data, io.EOF
	}
	data := make([]byte, chunkSize)
	n, err := io.ReadFull(r, data)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return data[:n], err
}
