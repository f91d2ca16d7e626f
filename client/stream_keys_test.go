package client_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// answering answers what comes in the stream "chat" until the task is canceled.
func answering(j *job) {
	o := j.stream("chat", 1)
	j.running.Go(func() {
		for {
			d, err := o.reader.Next(j.ctx)
			if err != nil {
				return
			}
			for _, i := range d.Items {
				j.check(o.Write(j.ctx, stream.Text("re: "+string(i.Data))))
			}
		}
	})
	<-j.canceled
	j.end(wire.Canceled)
}

// TestStreamsUseTheKeysOfTheirTask: two tasks in two environments, whose keys only the answers to Send name. Each stream
// is read and written with those of its own task, also one that is opened after the other task was sent.
func TestStreamsUseTheKeysOfTheirTask(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, answering)
	w.provideCard(streamCard, "paid", client.Paid, answering)
	o := w.options()
	o.SubscribeKey, o.PublishKey = "sub-c-wrong", "pub-c-wrong"
	c := w.clientOf(o)
	free, paid := w.send(c, piping("echo")), w.send(c, piping("paid"))
	for _, task := range []struct {
		s    *client.Session
		keys wire.Keyset
	}{{free, w.cdm.Playground}, {paid, w.cdm.Network}} {
		w.spy.forget()
		r := w.stream(task.s, "chat")
		if err := r.WriteText(within(t), "hello"); err != nil {
			t.Fatal(err)
		}
		for b, err := range r.Bytes(within(t)) {
			if err != nil || string(b) != "re: hello" {
				t.Errorf("read %q, %v", b, err)
			}
			break
		}
		channel := r.Ref().Descriptor().Channel
		for _, c := range []struct{ all, mine string }{
			{"/v2/subscribe/", "/v2/subscribe/" + task.keys.SubscribeKey + "/"},
			{"/publish/", "/publish/" + task.keys.PublishKey + "/" + task.keys.SubscribeKey + "/"},
		} {
			n := 0
			for _, request := range w.spy.find(c.all, "") {
				if strings.Contains(request.path, channel) {
					if n++; !strings.HasPrefix(request.path, c.mine) {
						t.Errorf("%s, want %s…", request.path, c.mine)
					}
				}
			}
			if n == 0 {
				t.Errorf("nothing went to %s…%s", c.all, channel)
			}
		}
	}
	if err := errors.Join(free.Cancel(within(t)), paid.Cancel(within(t))); err != nil {
		t.Error(err)
	}
}

// TestStreamsHaveNoPresence: reading and writing a stream neither announces anybody nor asks who is there.
func TestStreamsHaveNoPresence(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, answering)
	c := w.client()
	s := w.send(c, piping("echo"))
	r := w.stream(s, "chat")
	if err := r.WriteText(within(t), "hello"); err != nil {
		t.Fatal(err)
	}
	for _, err := range r.Bytes(within(t)) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	if err := r.End(within(t)); err != nil {
		t.Error(err)
	}
	if err := s.Cancel(within(t)); err != nil {
		t.Error(err)
	}
	if _, err := s.Wait(within(t)); err != nil {
		t.Error(err)
	}
	s.Close()
	c.Close()
	seen := 0
	for _, request := range w.spy.find("/", "") {
		if !strings.Contains(request.path, r.Ref().Descriptor().Channel) {
			continue
		}
		seen++
		q := request.URL.Query()
		if strings.HasPrefix(request.path, "/v2/presence/") || strings.Contains(request.path, "-pnpres") || q.Has("heartbeat") || q.Has("state") {
			t.Errorf("%s?%s", request.path, request.URL.RawQuery)
		}
	}
	if seen == 0 {
		t.Error("no request names the stream")
	}
}
