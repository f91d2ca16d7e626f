package client_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// TestUpload: the consumer writes, and the agent reads the marker when it ends.
func TestUpload(t *testing.T) {
	w := newWorld(t)
	read := make(chan []string, 2)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		bytes, events := j.stream("upload", 1), j.stream("orders", 2)
		for _, o := range []open{bytes, events} {
			var all []string
			for {
				d, err := o.reader.Next(j.ctx)
				if err != nil {
					if end, ok := errors.AsType[*stream.End](err); !ok || end.Reason != stream.Ended {
						j.t.Errorf("the agent's side ends with %v", err)
					}
					break
				}
				for _, i := range d.Items {
					all = append(all, string(i.Data)+string(i.Event))
				}
			}
			read <- all
		}
		j.end(wire.Completed)
	})
	s := w.send(w.client(), piping("echo"))
	upload, orders := w.stream(s, "upload"), w.stream(s, "orders")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	check(upload.Write(within(t), []byte("\xffbytes")))
	check(upload.WriteText(within(t), "text"))
	check(upload.TryWrite([]byte("more")))
	if err := upload.WriteEvent(within(t), 1); err == nil {
		t.Error("an event went into bytes")
	}
	check(upload.Flush(within(t)))
	check(upload.End(within(t)))
	check(upload.End(within(t)))
	if err := upload.Write(within(t), []byte("late")); !errors.Is(err, client.ErrStreamEnded) {
		t.Errorf("wrote after the end: %v", err)
	}
	check(orders.WriteEvent(within(t), map[string]string{"n": "<1>"}))
	check(orders.Write(within(t), []byte("b")))
	if err := orders.WriteText(within(t), "text"); err == nil {
		t.Error("a text went into events")
	}
	if err := orders.WriteEvent(within(t), "text"); err == nil {
		t.Error("a JSON text went into events")
	}
	check(orders.End(within(t)))
	for b, err := range upload.Bytes(within(t)) {
		if err == nil {
			t.Errorf("read %q from a stream that is written here", b)
		}
	}
	if got, want := <-read, []string{"\xffbytes", "text", "more"}; !slices.Equal(got, want) {
		t.Errorf("the agent read %q", got)
	}
	if got, want := <-read, []string{`{"n":"<1>"}`, `{"$binary":"Yg=="}`}; !slices.Equal(got, want) {
		t.Errorf("the agent read %q", got)
	}
	if upload.EndReason() != client.StreamEnded {
		t.Errorf("the upload ended as %q", upload.EndReason())
	}
}

// TestConversation: both write one stream, and neither reads its own.
func TestConversation(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		o := j.stream("chat", 1)
		for {
			d, err := o.reader.Next(j.ctx)
			if err != nil {
				return
			}
			for _, i := range d.Items {
				if string(i.Data) == "bye" {
					j.end(wire.Completed)
					return
				}
				j.check(o.Write(j.ctx, stream.Text("you said "+string(i.Data))))
			}
		}
	})
	s := w.send(w.client(), piping("echo"))
	r := w.stream(s, "chat")
	n := 0
	if err := r.WriteText(within(t), "hello 0"); err != nil {
		t.Fatal(err)
	}
	for b, err := range r.Bytes(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("you said hello %d", n); string(b) != want {
			t.Fatalf("read %q, want %q", b, want)
		}
		n++
		answer := fmt.Sprintf("hello %d", n)
		if n == 5 {
			answer = "bye"
		}
		if err := r.WriteText(within(t), answer); err != nil {
			t.Fatal(err)
		}
	}
	if n != 5 || r.EndReason() != client.StreamDrained {
		t.Errorf("%d answers, ended as %q", n, r.EndReason())
	}
}
