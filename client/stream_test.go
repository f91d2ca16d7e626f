package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

func TestStreamIsReadToItsEnd(t *testing.T) {
	w := newWorld(t)
	opened := make(chan struct{})
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		o := j.stream("_default", 1)
		<-opened
		for _, s := range []string{"one ", "", "two"} {
			j.check(o.Write(j.ctx, stream.Text(s)))
		}
		j.check(o.End(j.ctx))
		j.end(wire.Completed)
	})
	s := w.send(w.client(), streaming("echo"))
	ref, err := s.WaitStream(within(t), "")
	if err != nil {
		t.Fatal(err)
	}
	d := ref.Descriptor()
	if d.TaskID != s.TaskID() || d.AgentName != "echo" || d.AgentDirection != client.Outbound || d.LocalDirection != client.Inbound || d.Format != client.FormatBytes ||
		d.Affinity != client.Dedicated || d.DeclaredStream != "_default" || d.Channel == "" || d.Token == "" || string(d.Metadata) != `{"n":1}` {
		t.Errorf("descriptor %+v", d)
	}
	if ref.IsOpen() {
		t.Error("it is open before it was opened")
	}
	r := w.stream(s, "_default")
	if again, err := ref.Open(within(t)); err != nil || again != r || !ref.IsOpen() {
		t.Errorf("a second Open returns another stream: %v", err)
	}
	close(opened)
	if got := chunks(t, r); !slices.Equal(got, []string{"one ", "", "two"}) {
		t.Errorf("read %q", got)
	}
	if r.EndReason() != client.StreamEnded || r.Gaps() != 0 || r.Name() != "_default" {
		t.Errorf("ended as %q with %d gaps", r.EndReason(), r.Gaps())
	}
	if again := chunks(t, r); again != nil {
		t.Errorf("read %q after the end", again)
	}
	if _, err := ref.Open(within(t)); !errors.Is(err, client.ErrStreamEnded) {
		t.Errorf("opened after the end: %v", err)
	}
	if err := r.Write(within(t), []byte("x")); err == nil {
		t.Error("wrote a stream that can only be read")
	}
}

func TestStreamOfEvents(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		o := j.stream("ticks", 1)
		j.check(o.Write(j.ctx, stream.Event([]byte(`{"n": 1}`)), stream.Event([]byte(`[2]`)), stream.Event([]byte(`null`)), stream.BinaryEvent([]byte{1, 2})))
		j.check(o.End(j.ctx))
		<-j.canceled
		j.end(wire.Canceled)
	})
	s := w.send(w.client(), piping("echo"))
	var got []string
	for v, err := range w.stream(s, "ticks").Events(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(v))
	}
	if want := []string{`{"n":1}`, `[2]`, `null`, `{"$binary":"AQI="}`}; !slices.Equal(got, want) {
		t.Errorf("read %q", got)
	}
	if err := s.Cancel(within(t)); err != nil {
		t.Error(err)
	}
}

func TestTextNeverSplitsACharacter(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		o := j.stream("_default", 1)
		for _, b := range []string{"a\xe2", "\x82", "\xac!", "\xff", "ä", "\xf0\x9f"} {
			j.check(o.Write(j.ctx, stream.Bytes([]byte(b))))
			j.check(o.Flush(j.ctx))
		}
		j.check(o.End(j.ctx))
	})
	s := w.send(w.client(), streaming("echo"))
	var got []string
	for text, err := range w.stream(s, "").Text(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, text)
	}
	if want := []string{"a", "€!", "\ufffd", "ä", "\ufffd"}; !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

func TestStreamIsAReader(t *testing.T) {
	w := newWorld(t)
	want := strings.Repeat("0123456789\xff", 20_000)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		o := j.stream("_default", 1)
		for b := []byte(want); len(b) > 0; {
			n := min(len(b), 7000)
			j.check(o.Write(j.ctx, stream.Bytes(b[:n])))
			b = b[n:]
		}
		j.check(o.End(j.ctx))
	})
	s := w.send(w.client(), streaming("echo"))
	got, err := io.ReadAll(w.stream(s, ""))
	if err != nil || string(got) != want {
		t.Errorf("read %d bytes of %d: %v", len(got), len(want), err)
	}
}

func TestOpenIsRefusedAfterTheEnd(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		o := j.stream("_default", 1)
		j.check(o.Write(j.ctx, stream.Text("x")))
		j.check(o.End(j.ctx))
		j.end(wire.Completed)
	})
	c := w.client()
	s := w.send(c, streaming("echo"))
	if _, err := s.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*client.Session{s, w.connect(c, s.TaskID())} {
		refs := s.Streams()
		if len(refs) != 1 {
			t.Fatalf("%d streams", len(refs))
		}
		_, err := refs[0].Open(within(t))
		gone, ok := errors.AsType[*client.StreamUnavailableError](err)
		if !ok || gone.TaskID != s.TaskID() || gone.StreamID != refs[0].ID() || gone.DeclaredStream != "_default" || gone.TerminalState != client.Completed {
			t.Errorf("opened after the end: %+v", err)
		}
		if open := s.OpenAll(within(t)); len(open) != 0 {
			t.Errorf("%d streams opened after the end", len(open))
		}
	}
}

// TestTaskEndsBeforeOpen: a consumer that stood still when its streams were announced gets them all the same, though the task
// is over by then, because nobody has told it so.
func TestTaskEndsBeforeOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		ended := make(chan struct{})
		w.provideCard(streamCard, "echo", client.Free, func(j *job) {
			own, shared := j.stream("_default", 1), j.stream("news", 0)
			j.stream("upload", 2)
			for _, o := range []open{own, shared} {
				j.check(o.Write(j.ctx, stream.Text("x")))
				j.check(o.End(j.ctx))
			}
			j.end(wire.Completed)
			close(ended)
		})
		s := w.send(w.client(), piping("echo"))
		for e, err := range s.Events(within(t)) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != client.EventProgress || len(s.Streams()) == 0 {
				continue
			}
			<-ended
			synctest.Wait() // the session knows
			refs := s.Streams()
			for n, want := range []client.EndReason{client.StreamEnded, client.StreamDrained} {
				r, err := refs[n].Open(within(t))
				if err != nil {
					t.Fatal(err)
				}
				if got := chunks(t, r); len(got) != 1 || got[0] != "x" || r.EndReason() != want {
					t.Errorf("%s: read %q, ended as %q", r.Name(), got, r.EndReason())
				}
			}
			if _, err := refs[2].Open(within(t)); err == nil {
				t.Error("a stream that nobody reads any more was opened")
			}
			break
		}
		s.Close()
	})
}

// TestLateReader: who connects later gets what the network still has, and no false end on a shared stream.
func TestLateReader(t *testing.T) {
	w := newWorld(t)
	written := make(chan struct{})
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		own, shared := j.stream("_default", 1), j.stream("news", 0)
		for n := range 20 {
			for _, o := range []open{own, shared} {
				j.check(o.Write(j.ctx, stream.Text(fmt.Sprint(n))))
				j.check(o.Flush(j.ctx))
			}
		}
		close(written)
		<-j.canceled
		j.check(own.End(j.ctx))
		j.check(shared.End(j.ctx))
		j.end(wire.Canceled)
	})
	c := w.client()
	first := w.send(c, piping("echo"))
	<-written
	s := w.connect(c, first.TaskID())
	if _, err := s.WaitStream(within(t), "news"); err != nil {
		t.Fatal(err)
	}
	open := s.OpenAll(within(t))
	if len(open) != 2 || open[0].Name() != "_default" || open[1].Name() != "news" {
		t.Fatalf("opened %d streams", len(open))
	}
	for _, r := range open {
		n := 0
		for b, err := range r.Bytes(within(t)) {
			if err != nil || string(b) != fmt.Sprint(n) {
				t.Fatalf("%s: read %q after %d items: %v", r.Name(), b, n, err)
			}
			if n++; n == 20 {
				break
			}
		}
		if r.EndReason() != "" || r.Gaps() != 0 {
			t.Errorf("%s: ended as %q, %d gaps", r.Name(), r.EndReason(), r.Gaps())
		}
	}
	if err := s.Cancel(within(t)); err != nil {
		t.Fatal(err)
	}
	if rest := chunks(t, open[0]); rest != nil || open[0].EndReason() != client.StreamEnded {
		t.Errorf("then read %q, ended as %q", rest, open[0].EndReason())
	}
	if rest := chunks(t, open[1]); rest != nil || open[1].EndReason() != client.StreamDrained {
		t.Errorf("then read %q, ended as %q", rest, open[1].EndReason())
	}
}

// TestStreamUsers: this side is called after whom the credential belongs to, differently for each stream.
func TestStreamUsers(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		j.stream("upload", 1)
		j.stream("orders", 2)
		<-j.canceled
		j.end(wire.Canceled)
	})
	c := w.client()
	s := w.send(c, piping("echo"))
	up, orders := w.stream(s, "upload"), w.stream(s, "orders")
	if err := errors.Join(up.WriteText(within(t), "x"), up.Flush(within(t)), orders.WriteEvent(within(t), 1), orders.Flush(within(t))); err != nil {
		t.Fatal(err)
	}
	var users []string
	for _, r := range w.spy.find("/publish/", "stream_") {
		q := r.URL.Query()
		var meta map[string]string
		if err := json.Unmarshal([]byte(q.Get("meta")), &meta); err != nil || meta["sender"] != q.Get("uuid") || meta["protocolVersion"] != wire.ProtocolVersion {
			t.Errorf("meta %s of user %s", q.Get("meta"), q.Get("uuid"))
		}
		if q.Get("store") != "0" || r.Method != http.MethodPost {
			t.Errorf("%s with store=%s", r.Method, q.Get("store"))
		}
		users = append(users, q.Get("uuid"))
	}
	if len(users) != 2 || users[0] == users[1] || !strings.HasPrefix(users[0], c.UserID()+"-stream-000") {
		t.Errorf("users %q", users)
	}
}

// TestEnvironmentOfStreams: the variables of the Blocks SDKs set limits, and what cannot be used is left out.
func TestEnvironmentOfStreams(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		in := j.stream("upload", 1)
		_, _ = in.reader.Next(j.ctx)
		<-j.canceled
	})
	o := w.options()
	o.Getenv = func(name string) string {
		return map[string]string{"STREAM_MAX_MESSAGE_SIZE": "1000", "STREAM_BUNDLE_SIZE": "many"}[name]
	}
	up := w.stream(w.send(w.clientOf(o), piping("echo")), "upload")
	if err := errors.Join(up.Write(within(t), make([]byte, 5000)), up.Flush(within(t))); err != nil {
		t.Fatal(err)
	}
	pieces := w.spy.find("/publish/", "multipart")
	for _, p := range pieces {
		if len(p.body) > 1000 {
			t.Errorf("a piece of %d bytes", len(p.body))
		}
	}
	if len(pieces) < 5 {
		t.Errorf("%d pieces", len(pieces))
	}
}
