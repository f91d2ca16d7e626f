package link_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/link"
)

// What streams need of a link: requests of several users, publishes that are tried once, and to know when everything that
// the network has was handed over.

func TestRequestsOfAnotherUser(t *testing.T) {
	n := newNetwork(t)
	l := n.link()
	if _, err := l.Publish(within(t), link.Message{Channel: "c", UserID: "some one", Body: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.PublishOnce(within(t), link.Message{Channel: "c", Body: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}, UserID: "another", Cursor: "1000"})
	for _, want := range []string{"some one", "tester"} {
		select {
		case m := <-ls.got:
			if m.Publisher != want {
				t.Errorf("published by %q, want %q", m.Publisher, want)
			}
		case <-time.After(patience):
			t.Fatal("no message")
		}
	}
	for _, r := range n.faults.requests("/v2/subscribe/") {
		if !strings.Contains(r, "uuid=another") || strings.Contains(r, "uuid=tester") {
			t.Errorf("subscribed with %s", r)
		}
	}
}

func TestPublishOnce(t *testing.T) {
	n := newNetwork(t)
	l := n.link()
	n.faults.set(func(*http.Request) (*http.Response, error, bool) {
		r := answer(http.StatusTooManyRequests, `{"message":"slow down"}`)
		r.Header.Set("Retry-After", "7")
		return r, nil, false
	})
	_, err := l.PublishOnce(within(t), link.Message{Channel: "c", Body: []byte("1")})
	e, ok := errors.AsType[*link.StatusError](err)
	if !ok || e.Status != http.StatusTooManyRequests || e.RetryAfter != 7*time.Second {
		t.Errorf("%+v", err)
	}
	if sent := n.faults.requests("/publish/"); len(sent) != 1 {
		t.Errorf("%d attempts", len(sent))
	}
	n.faults.set(func(*http.Request) (*http.Response, error, bool) { return nil, errReset, false })
	if _, err := l.PublishOnce(within(t), link.Message{Channel: "c", Body: []byte("1")}); !errors.Is(err, errReset) {
		t.Errorf("a broken connection is reported as %v", err)
	}
	for name, m := range map[string]link.Message{"no body": {Channel: "c"}, "stored": {Channel: "c", Body: []byte("1"), Store: true}} {
		if _, err := l.PublishOnce(within(t), m); err == nil {
			t.Errorf("%s: published", name)
		}
	}
	l.Close()
	if _, err := l.PublishOnce(context.Background(), link.Message{Channel: "c", Body: []byte("1")}); !errors.Is(err, link.ErrClosed) {
		t.Errorf("on a closed link: %v", err)
	}
}

// TestOnAnswer: it is called after the messages of an answer and before the next request.
func TestOnAnswer(t *testing.T) {
	n := newNetwork(t)
	for _, body := range []string{"0", "1", "2"} {
		n.publish("c", body)
	}
	var happened []string
	ctx, stop := context.WithCancel(within(t))
	err := n.link().Subscribe(ctx, link.SubscribeConfig{
		Channels: []string{"c"}, Cursor: "1000", Replays: true, Remember: 10,
		OnAnswer: func(timetoken string) {
			if timetoken == "" {
				t.Error("no timetoken")
			}
			happened = append(happened, "answer")
			stop()
		},
	}, func(m link.Received) { happened = append(happened, string(m.Body)) })
	if got := strings.Join(happened, " "); got != "0 1 2 answer" || !errors.Is(err, context.Canceled) {
		t.Errorf("%s, %v", got, err)
	}
}
