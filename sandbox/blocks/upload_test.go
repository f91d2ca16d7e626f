package blocks

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/network/wire"
)

// TestOneUploadAtATime: of two uploads of one file the second is refused, and the file cannot be confirmed while bytes
// are on their way; nothing is mixed.
func TestOneUploadAtATime(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		defer w.cfg.Blobs.Close()
		w.register("a", 1, nil)
		w.online("a", "x")
		r := w.submit("a")
		ticket, err := w.RequestUpload(w.owner, UploadRequest{Output: true, FileName: "f", Size: 4, TaskID: r.TaskID, OutputID: "o"})
		if err != nil {
			t.Fatal(err)
		}
		code := func(err error) string {
			e := new(Error)
			if !errors.As(err, &e) {
				return ""
			}
			return e.Code
		}
		reader, writer := io.Pipe()
		first := make(chan error, 1)
		go func() { first <- w.Receive(ticket.UploadID, reader) }()
		_, _ = io.WriteString(writer, "aa") // returns when it is read
		if err := w.Receive(ticket.UploadID, strings.NewReader("bbb")); code(err) != CodeUploadBusy {
			t.Errorf("second upload: %v", err)
		}
		if _, err := w.ConfirmUpload(w.owner, ticket.UploadID); code(err) != CodeUploadUnfinished {
			t.Errorf("confirmed too early: %v", err)
		}
		_, _ = io.WriteString(writer, "aa")
		writer.Close()
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		ref, err := w.ConfirmUpload(w.owner, ticket.UploadID)
		if err != nil || ref.Size != 4 {
			t.Fatalf("%+v, %v", ref, err)
		}
		if err := w.Receive(ticket.UploadID, strings.NewReader("bbb")); code(err) != CodeUploadNotFound {
			t.Errorf("upload after the end: %v", err)
		}
		path, ok := w.Locate(ref.Channel, ref.FileID, "f")
		if !ok {
			t.Fatal("the file is not there")
		}
		f, err := w.OpenBlob(strings.TrimPrefix(path, BlobPath))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := io.ReadAll(f); err != nil || string(got) != "aaaa" {
			t.Errorf("stored %q, %v", got, err)
		}
		w.event(r, "x", wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Completed}))
	})
}
