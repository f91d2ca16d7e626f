package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

func TestWriteAndRead(t *testing.T) {
	w := newWorld(t, false)
	w.wire.record()
	r := w.reader()
	sw := w.writer()
	for _, s := range []string{"hello ", "", "world"} {
		must(t, sw.Write(within(t), stream.Text(s)))
	}
	must(t, sw.Write(within(t), stream.Bytes([]byte{0xff, 0})))
	must(t, sw.End(within(t)))
	must(t, sw.End(within(t))) // harmless
	g := all(t, r)
	if got := g.chunks(); !slices.Equal(got, []string{"hello ", "", "world", "\xff\x00"}) || len(g.gaps) != 0 || g.end.Reason != stream.Ended {
		t.Errorf("%q, %+v", got, g)
	}
	if _, err := r.Next(within(t)); !errors.As(err, new(*stream.End)) {
		t.Errorf("after the end: %v", err)
	}
	if s := sw.Stats(); s.Items != 4 || s.Bytes != 13 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	if s := r.Stats(); s.Items != 4 || s.Bytes != 13 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	if err := sw.Write(within(t), stream.Text("late")); !errors.Is(err, stream.ErrEnded) {
		t.Errorf("write after the end: %v", err)
	}
}

// members decodes a message of the wire.
func members(t *testing.T, body string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOnTheWire: the rules that other people's readers rely on.
func TestOnTheWire(t *testing.T) {
	for _, tc := range []struct {
		format wire.StreamFormat
		marker bool
		first  int64
		items  []stream.Item
	}{
		{format: wire.FormatBytes, marker: true, first: 0, items: []stream.Item{stream.Text("é\n"), stream.Bytes([]byte{0xff}), stream.Bytes(make([]byte, 20_000))}},
		{format: wire.FormatEvents, marker: true, first: 1, items: []stream.Item{stream.Event([]byte(` {"a": [1, 2]} `)), stream.BinaryEvent([]byte{1}), stream.Event([]byte("null"))}},
		{format: wire.FormatBytes, marker: false, first: 0, items: []stream.Item{stream.Text("x")}},
	} {
		w := newWorld(t, false)
		w.wire.record()
		sw := w.writer(func(c *stream.WriterConfig) { c.Format, c.EndMarker = tc.format, tc.marker })
		for _, i := range tc.items {
			must(t, sw.Write(within(t), i))
			must(t, sw.Flush(within(t)))
		}
		must(t, sw.End(within(t)))
		next := tc.first
		ends := 0
		for _, m := range w.published() {
			body := members(t, m.body)
			if got := string(body["seq"]); got != fmt.Sprint(next) && string(body["multipart"]) == "" {
				t.Errorf("seq %s, want %d: %.200s", got, next, m.body)
			}
			var meta struct{ Sender, ProtocolVersion string }
			must(t, json.Unmarshal([]byte(m.meta), &meta))
			if meta.Sender != m.publisher || meta.ProtocolVersion != wire.ProtocolVersion || string(body["protocolVersion"]) != `"`+wire.ProtocolVersion+`"` {
				t.Errorf("meta %s of %s, body %.100s", m.meta, m.publisher, m.body)
			}
			if !regexp.MustCompile(`^echo-stream-\d{4}-[0-9a-f]{8}$`).MatchString(m.publisher) {
				t.Errorf("user %s", m.publisher)
			}
			if len(m.body) > wire.DefaultStreamMessageBytes {
				t.Errorf("a message of %d bytes", len(m.body))
			}
			if string(body["streamId"]) != `"t1-1"` || string(body["ts"]) == "" || body["firstSeq"] != nil {
				t.Errorf("%.200s", m.body)
			}
			switch typ := string(body["type"]); {
			case typ == `"stream_end"`:
				ends++
				if len(body) != 5 {
					t.Errorf("end marker %s", m.body)
				}
			case body["multipart"] != nil:
				var part struct {
					ID          string
					Part, Total int
				}
				must(t, json.Unmarshal(body["multipart"], &part))
				if part.Part == part.Total {
					next++
				}
				continue
			case tc.format == wire.FormatBytes && (typ != `"stream_data"` || body["chunks"] == nil || body["encoding"] == nil),
				tc.format == wire.FormatEvents && (typ != `"stream_events"` || body["events"] == nil || string(body["encoding"]) != `"utf8"`):
				t.Errorf("%s", m.body)
			}
			next++
		}
		if want := map[bool]int{true: 1}[tc.marker]; ends != want {
			t.Errorf("%d end markers, want %d", ends, want)
		}
		if want := tc.first + int64(len(tc.items)+ends); next != want {
			t.Errorf("numbers up to %d, want %d", next, want)
		}
	}
}

// TestSubscribesFromTheBeginning: with what is cached, the filter of a bidirectional stream, and its user.
func TestSubscribesFromTheBeginning(t *testing.T) {
	w := newWorld(t, false)
	seen := make(chan *http.Request, 100)
	w.wire.set(nil, func(r *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
		seen <- r
		return pass()
	})
	var user string
	w.reader(func(c *stream.ReaderConfig) { c.IgnoreOwn, user = true, c.Endpoint.UserID })
	for r := range seen {
		q := r.URL.Query()
		if q.Get("uuid") != user || q.Get("filter-expr") != "meta.sender != '"+user+"'" {
			t.Errorf("query %v", q)
		}
		if q.Get("tt") == "1000" {
			break
		}
	}
}

// TestOwnMessagesAreLeftOut: also where the network does not filter.
func TestOwnMessagesAreLeftOut(t *testing.T) {
	w := newWorld(t, false)
	w.wire.set(nil, func(r *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
		q := r.URL.Query()
		q.Del("filter-expr")
		r.URL.RawQuery = q.Encode()
		return pass()
	})
	e := w.endpoint(access.Read | access.Write)
	r := w.reader(func(c *stream.ReaderConfig) { c.Endpoint, c.EndMarker, c.IgnoreOwn = e, false, true })
	own := w.writer(func(c *stream.WriterConfig) { c.Endpoint, c.EndMarker = e, false })
	other := w.writer(func(c *stream.WriterConfig) { c.EndMarker = false })
	must(t, own.Write(within(t), stream.Text("own")))
	must(t, own.Flush(within(t)))
	must(t, other.Write(within(t), stream.Text("other")))
	if g := next(t, r, 1); g.chunks()[0] != "other" {
		t.Errorf("read %q", g.chunks())
	}
}

// TestTwoWriters: both number from the beginning, and nothing of either is lost.
func TestTwoWriters(t *testing.T) {
	w := newWorld(t, false)
	r := w.reader(func(c *stream.ReaderConfig) { c.EndMarker = false })
	a, b := w.writer(func(c *stream.WriterConfig) { c.EndMarker = false }), w.writer(func(c *stream.WriterConfig) { c.EndMarker = false })
	for n := range 20 {
		for name, sw := range map[string]*stream.Writer{"a": a, "b": b} {
			must(t, sw.Write(within(t), stream.Text(fmt.Sprint(name, n))))
			must(t, sw.Flush(within(t)))
		}
	}
	at := map[string]int{}
	for _, c := range next(t, r, 40).chunks() {
		if c != fmt.Sprint(c[:1], at[c[:1]]) {
			t.Errorf("%s follows %d", c, at[c[:1]]-1)
		}
		at[c[:1]]++
	}
	r.End(stream.Drained, "the task is over")
	if g := all(t, r); g.end.Reason != stream.Drained || g.end.Detail != "the task is over" {
		t.Errorf("ended as %v", g.end)
	}
}

// TestRestartedWriter: one that begins anew under the same name, as after a crash, is read on, also from the cache.
func TestRestartedWriter(t *testing.T) {
	w := newWorld(t, false)
	e := w.endpoint(access.Write)
	live := w.reader(func(c *stream.ReaderConfig) { c.EndMarker = false })
	var want []string
	for run := range 3 {
		sw := w.writer(func(c *stream.WriterConfig) { c.Endpoint, c.EndMarker = e, false })
		for n := range 5 {
			want = append(want, fmt.Sprint(run, " ", n))
			must(t, sw.Write(within(t), stream.Text(want[len(want)-1])))
			must(t, sw.Flush(within(t)))
			time.Sleep(2 * time.Millisecond) // the sender's clock counts milliseconds
		}
	}
	if g := next(t, live, len(want)); !slices.Equal(g.chunks(), want) || len(g.gaps) != 0 {
		t.Errorf("live: %q, gaps %v", g.chunks(), g.gaps)
	}
	late := w.reader(func(c *stream.ReaderConfig) { c.EndMarker = false })
	if g := next(t, late, len(want)); !slices.Equal(g.chunks(), want) || len(g.gaps) != 0 {
		t.Errorf("late: %q, gaps %v", g.chunks(), g.gaps)
	}
}

// TestLateReader: what the network no longer has is a gap, and nothing waits for it.
func TestLateReader(t *testing.T) {
	w := newWorld(t, false)
	sw := w.writer()
	for n := range 130 {
		must(t, sw.Write(within(t), stream.Text(fmt.Sprint(n))))
		must(t, sw.Flush(within(t)))
	}
	must(t, sw.End(within(t)))
	g := all(t, w.reader())
	if len(g.gaps) != 1 || g.gaps[0].From != 0 || g.gaps[0].Reason != stream.GapLate || int64(len(g.items))+g.gaps[0].Messages() != 130 || len(g.items) < 90 {
		t.Errorf("%d items, gaps %+v", len(g.items), g.gaps)
	}
	if g.end.Reason != stream.Ended {
		t.Errorf("ended as %v", g.end)
	}
}

// TestMessagesOfOthers: what is no message of a stream changes nothing.
func TestMessagesOfOthers(t *testing.T) {
	w := newWorld(t, false)
	publish := func(body string) {
		w.space.Publish(pubsub.Publication{Channel: channel, Publisher: "sdk", Body: []byte(body)})
	}
	head := `{"type":"stream_data","protocolVersion":"2026-05-01","streamId":"t1-1","ts":1700000000000,`
	for _, body := range []string{
		`5`, `"text"`, `[]`, `{}`, `{"type":"stream_data"}`, head + `"seq":0,"chunks":[]}`, head + `"seq":0,"chunks":"x"}`, head + `"seq":0,"chunks":[5]}`,
		head + `"seq":0,"encoding":"hex","chunks":["00"]}`, head + `"seq":0,"encoding":"base64","chunks":["?"]}`, head + `"seq":"0","chunks":["x"]}`, head + `"seq":true,"chunks":["x"]}`,
		`{"type":"stream_end","seq":null}`, `{"type":"control"}`, head + `"seq":0,"multipart":{"id":"","part":1,"total":2},"data":"eA=="}`,
		head + `"seq":0,"multipart":{"id":"m","part":3,"total":2},"data":"eA=="}`, head + `"seq":0,"multipart":{"id":"m","part":1,"total":1},"data":"eA=="}`,
		head + `"seq":0,"multipart":{"id":"m","part":1,"total":2},"data":5}`,
	} {
		publish(body)
	}
	publish(head + ` "seq" : 0 , "chunks" : [ "no encoding \u00e9" ] , "more" : {} }`) // spaced, as Python writes
	publish(head + `"seq":0,"encoding":"utf8","chunks":["again"]}`)
	publish(`{"type":"other","seq":1,"x":1}`)
	publish(head + `"seq":2.0,"encoding":"base64","chunks":["","/w=="]}`)
	publish(`{"type":"stream_end","seq":3}`)
	g := all(t, w.reader())
	if !slices.Equal(g.chunks(), []string{"no encoding é", "", "\xff"}) || len(g.raw) != 1 || len(g.gaps) != 0 || g.end.Reason != stream.Ended {
		t.Errorf("%q, %+v", g.chunks(), g)
	}
}

// TestManyPieces: ten thousand pieces of one message that is never complete disturb nothing else.
func TestManyPieces(t *testing.T) {
	w := newWorld(t, false)
	r := w.reader(func(c *stream.ReaderConfig) { c.EndMarker = false })
	other := w.writer(func(c *stream.WriterConfig) { c.EndMarker = false })
	for n := range 10_000 {
		w.space.Publish(pubsub.Publication{Channel: channel, Publisher: "sdk", Body: fmt.Appendf(nil,
			`{"type":"stream_data","seq":0,"ts":1,"multipart":{"id":"m","part":%d,"total":20000},"data":"eA=="}`, n+1)})
		if n%1000 == 0 {
			must(t, other.Write(within(t), stream.Text(fmt.Sprint(n))))
			must(t, other.Flush(within(t)))
		}
	}
	r2 := w.reader(func(c *stream.ReaderConfig) { c.EndMarker = false })
	must(t, other.Write(within(t), stream.Text("last")))
	for _, reader := range []*stream.Reader{r, r2} {
		for {
			g := next(t, reader, 1)
			if g.chunks()[0] == "last" {
				break
			}
		}
	}
}

func TestWritesThatAreRefused(t *testing.T) {
	w := newWorld(t, false)
	bytes := w.writer(func(c *stream.WriterConfig) { c.Limits.MaxItem = 1000 })
	events := w.writer(func(c *stream.WriterConfig) { c.Format = wire.FormatEvents })
	for name, err := range map[string]error{
		"an event into bytes":     bytes.Write(within(t), stream.Event([]byte("1"))),
		"too large":               bytes.Write(within(t), stream.Text("a"), stream.Bytes(make([]byte, 1001))),
		"a text into events":      events.Write(within(t), stream.Text("x")),
		"a JSON text into events": events.TryWrite(stream.Event([]byte(` "x"`))),
		"no JSON":                 events.Write(within(t), stream.Event([]byte(`{"a":`))),
		"nothing":                 events.Write(within(t), stream.Event([]byte(` `))),
	} {
		if e, ok := errors.AsType[*stream.ItemError](err); !ok || !strings.HasPrefix(e.Error(), "write to the stream: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := bytes.Stats(); s.Items != 0 {
		t.Errorf("%d items of a write that was refused", s.Items)
	}
	must(t, bytes.Write(within(t)))
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	w := newWorld(t, false)
	good := stream.WriterConfig{Endpoint: w.endpoint(access.Write), StreamID: "s", Format: wire.FormatBytes}
	for name, change := range map[string]func(*stream.WriterConfig){
		"no link":         func(c *stream.WriterConfig) { c.Endpoint.Link = nil },
		"format":          func(c *stream.WriterConfig) { c.Format = "text" },
		"id":              func(c *stream.WriterConfig) { c.StreamID = "a.b" },
		"small message":   func(c *stream.WriterConfig) { c.Limits.MaxMessage = 512 },
		"large message":   func(c *stream.WriterConfig) { c.Limits.MaxMessage = 40_000 },
		"negative buffer": func(c *stream.WriterConfig) { c.Limits.Buffer = -1 },
		"small piece":     func(c *stream.WriterConfig) { c.Limits.MaxPiece = 1000 },
	} {
		bad := good
		change(&bad)
		if _, err := stream.NewWriter(bad); err == nil {
			t.Errorf("%s: a writer was made", name)
		}
	}
	if _, err := stream.NewReader(stream.ReaderConfig{}); err == nil {
		t.Error("a reader of nothing was made")
	}
}

// TestFailedStream: the reason travels with the end marker.
func TestFailedStream(t *testing.T) {
	w := newWorld(t, false)
	r, sw := w.reader(), w.writer()
	must(t, sw.Write(within(t), stream.Text("x")))
	must(t, sw.Fail(within(t), "the camera is gone"))
	if g := all(t, r); len(g.items) != 1 || g.end.Reason != stream.Failed || g.end.Detail != "the camera is gone" {
		t.Errorf("%d items, ended as %v", len(g.items), g.end)
	}
}

// TestClose: a writer and a reader that are closed let go of everybody who waits.
func TestClose(t *testing.T) {
	w := newWorld(t, false)
	w.wire.set(func(r *http.Request, _ []byte, _ func() (*http.Response, error)) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}, nil)
	r := w.reader()
	sw := w.writer(func(c *stream.WriterConfig) { c.Limits.Buffer = 1 })
	must(t, sw.Write(within(t), stream.Text("under way")))
	must(t, sw.Write(within(t), stream.Text("in the buffer")))
	why := errors.New("the handler is gone")
	waits := make(chan error, 4)
	go func() { waits <- sw.Write(context.Background(), stream.Text("waits")) }()
	go func() { waits <- sw.Flush(context.Background()) }()
	go func() { _, err := r.Next(context.Background()); waits <- err }()
	go func() { _, err := r.Next(context.Background()); waits <- err }()
	for deadline := time.After(patience); sw.Stats().Items < 2; {
		select {
		case <-deadline:
			t.Fatal("the writes were not taken")
		default:
		}
	}
	sw.Close(why)
	r.End(stream.Closed, "")
	closed := 0
	for range 4 {
		err := <-waits
		if end, ok := errors.AsType[*stream.End](err); ok && end.Reason == stream.Closed {
			closed++
		} else if err != why {
			t.Errorf("a call that waited returns %v", err)
		}
	}
	if closed != 2 || sw.Err() != why {
		t.Errorf("%d readers were told, the writer's error is %v", closed, sw.Err())
	}
	<-sw.Done()
	<-r.Arrived()
}

// TestRunEnds: what runs ends with its context, and says so.
func TestRunEnds(t *testing.T) {
	w := newWorld(t, false)
	sw, err := stream.NewWriter(stream.WriterConfig{Endpoint: w.endpoint(access.Write), StreamID: "s", Format: wire.FormatBytes})
	must(t, err)
	r, err := stream.NewReader(stream.ReaderConfig{Endpoint: w.endpoint(access.Read), Format: wire.FormatBytes})
	must(t, err)
	for name, run := range map[string]func(context.Context) error{"writer": sw.Run, "reader": r.Run} {
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- run(ctx) }()
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := sw.Write(within(t), stream.Text("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("write after that: %v", err)
	}
	if _, err := r.Next(within(t)); !errors.As(err, new(*stream.End)) || r.Ended().Reason != stream.Closed {
		t.Errorf("read after that: %v", err)
	}
}

// TestUserIDsOfTwoProcesses: each counts from one, and yet no id is that of the other.
func TestUserIDsOfTwoProcesses(t *testing.T) {
	var one, two stream.UserIDs
	if a, b := one.Next("agent"), two.Next("agent"); a == b {
		t.Errorf("both are called %s", a)
	}
}

func TestUserIDs(t *testing.T) {
	var ids stream.UserIDs
	if got := ids.Next("echo"); !strings.HasPrefix(got, "echo-stream-0001-") || len(got) != len("echo-stream-0001-")+8 {
		t.Errorf("%s", got)
	}
	if got := ids.Next(strings.Repeat("a", 200)); len(got) != wire.MaxUserIDBytes || !strings.Contains(got, "-stream-0002-") {
		t.Errorf("%s has %d bytes", got, len(got))
	}
	if got := ids.Next(`o'b "c\d é`); !strings.HasPrefix(got, "obcd-stream-0003-") {
		t.Errorf("%s", got)
	}
}

func TestFirstSeq(t *testing.T) {
	now := time.UnixMilli(1764316800123)
	if stream.FirstSeq(wire.FormatBytes, false, now) != 0 || stream.FirstSeq(wire.FormatEvents, false, now) != 1 {
		t.Error("a stream that nobody has written begins at another number")
	}
	if got := stream.FirstSeq(wire.FormatEvents, true, now); got != 1764316800123000 || got > 1<<53 {
		t.Errorf("a stream that was written begins at %d", got)
	}
}

func TestLimitsFrom(t *testing.T) {
	l, problems := stream.LimitsFrom(func(name string) string {
		return map[string]string{"STREAM_MAX_MESSAGE_SIZE": " 20000 ", "STREAM_BUNDLE_SIZE": "512", "STREAM_MAX_LATENCY_MS": "25"}[name]
	})
	if l.MaxMessage != 20000 || l.Bundle != 512 || l.MaxLatency != 25*time.Millisecond || problems != nil {
		t.Errorf("%+v, %v", l, problems)
	}
	l, problems = stream.LimitsFrom(func(string) string { return "x" })
	if l != (stream.Limits{}) || len(problems) != 3 {
		t.Errorf("%+v, %v", l, problems)
	}
}
