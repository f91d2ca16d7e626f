package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// streamCard is the card of an agent with every kind of stream.
func streamCard(t testing.TB, name string) card.Card {
	t.Helper()
	c := cardOf(t, name, 8, "")
	c.Streams = map[string]card.Stream{
		"_default": {Direction: "outbound", Format: "bytes", Affinity: "dedicated"},
		"events":   {Direction: "outbound", Format: "events", Affinity: "dedicated"},
		"feed":     {Direction: "inbound", Format: "bytes", Affinity: "dedicated"},
		"chat":     {Direction: "bidirectional", Format: "events", Affinity: "dedicated"},
		"cast":     {Direction: "outbound", Format: "events", Affinity: "shared"},
	}
	return c
}

// streamed is a task with streams, its handler and its consumer.
type streamed struct {
	*call
	n      *network
	id     string
	events <-chan wire.Event
	keys   wire.Keyset
}

// streamTask submits a task that wants streams, and waits for its handler.
func (n *network) streamTask(st *stage, agent string, kind wire.TaskKind, minutes int) *streamed {
	n.t.Helper()
	yes := true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sent, err := n.api.NewConsumer(n.sb.APIKey()).SendMessage(ctx, backend.SendRequest{
		AgentName: agent, BillingMode: wire.Free, Parts: []wire.Part{text("request", "go")}, Stream: &yes, Kind: kind, DurationMinutes: minutes,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return &streamed{call: st.next(n.t), n: n, id: sent.TaskID, events: n.follow(sent), keys: sent.Keys}
}

// create makes a stream and returns it with what the consumer learns of it.
func (s *streamed) create(declared string) (dispatch.Stream, wire.AnnouncedStream) {
	s.n.t.Helper()
	made, created, err := s.port.CreateStream(s.ctx, dispatch.StreamRequest{Declared: declared})
	if err != nil || !created {
		s.n.t.Fatalf("create %s: %v, %v", declared, created, err)
	}
	return made, s.announced()
}

// announced waits for the next announcement of a stream.
func (s *streamed) announced() wire.AnnouncedStream {
	s.n.t.Helper()
	for {
		e := next(s.n.t, s.events)
		if all, _, ok := wire.DecodeStreamStarted(e.Raw); ok && len(all) == 1 {
			return all[0]
		}
		if e.Type == wire.EventTerminal {
			s.n.t.Fatalf("the task has ended with %s %s before a stream was announced", e.State, e.Error)
		}
	}
}

// ending waits for the terminal event.
func (s *streamed) ending() wire.Event {
	s.n.t.Helper()
	_, last := ending(s.n.t, s.events)
	return last
}

// endpoint is the consumer's side of a stream.
func (s *streamed) endpoint(a wire.AnnouncedStream) stream.Endpoint {
	s.n.t.Helper()
	l, err := link.New(link.Config{Origin: s.n.cdm.PubNubOrigin, Keys: s.keys, UserID: "consumer"})
	if err != nil {
		s.n.t.Fatal(err)
	}
	s.n.t.Cleanup(l.Close)
	return stream.Endpoint{Link: l, Channel: a.Channel, UserID: "consumer-stream-" + a.ID, Token: func() string { return a.Token }}
}

// reading is a consumer that reads a stream.
type reading struct {
	t testing.TB
	*stream.Reader
}

func (s *streamed) read(a wire.AnnouncedStream) *reading {
	s.n.t.Helper()
	r, err := stream.NewReader(stream.ReaderConfig{
		Endpoint: s.endpoint(a), Format: a.Format, EndMarker: wire.HasEndMarker(a.Direction, a.Affinity), IgnoreOwn: a.Direction == wire.Bidirectional,
	})
	if err != nil {
		s.n.t.Fatal(err)
	}
	run(s.n.t, r.Run)
	return &reading{s.n.t, r}
}

func (s *streamed) write(a wire.AnnouncedStream) *stream.Writer {
	s.n.t.Helper()
	w, err := stream.NewWriter(stream.WriterConfig{
		Endpoint: s.endpoint(a), StreamID: a.ID, Format: a.Format, EndMarker: wire.HasEndMarker(a.Direction, a.Affinity), FirstSeq: a.Format.FirstSeq(),
	})
	if err != nil {
		s.n.t.Fatal(err)
	}
	run(s.n.t, w.Run)
	return w
}

// run runs one end of a stream until the test ends.
func run(t testing.TB, f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
}

// next returns the next items as one text, and the reason of the end in brackets.
func (r *reading) next() string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d, err := r.Next(ctx)
	var end *stream.End
	switch {
	case errors.As(err, &end):
		return fmt.Sprintf("[%s%s]", end.Reason, end.Detail)
	case err != nil:
		r.t.Fatal(err)
	case d.Gap != nil:
		return fmt.Sprintf("[gap of %d]", d.Gap.Messages())
	}
	var all []string
	for _, i := range d.Items {
		all = append(all, string(i.Data)+string(i.Event))
	}
	return strings.Join(all, "|")
}

// all returns everything up to the end.
func (r *reading) all() string {
	r.t.Helper()
	var b strings.Builder
	for {
		s := r.next()
		b.WriteString(s)
		if strings.HasPrefix(s, "[") {
			return b.String()
		}
	}
}

func items(kind dispatch.StreamItemKind, texts ...string) (out []dispatch.StreamItem) {
	for _, t := range texts {
		out = append(out, dispatch.StreamItem{Kind: kind, Data: []byte(t)})
	}
	return out
}

func put(t testing.TB, s dispatch.Stream, kind dispatch.StreamItemKind, texts ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Write(ctx, items(kind, texts...), true); err != nil {
		t.Fatal(err)
	}
}

// faultOf is the class of a stream's error.
func faultOf(err error) dispatch.StreamFault {
	var e *dispatch.StreamError
	if errors.As(err, &e) {
		return e.Fault
	}
	return 0
}

// TestStreamOfRequest: what a handler writes arrives while the task runs, and the stream ends before the task does.
func TestStreamOfRequest(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Request, 0)
	s, announced := task.create("_default")
	if want := task.id + "-1"; s.Info().ID != want || announced.ID != want || announced.Channel != "stream.worker."+want || announced.Declared != "_default" {
		t.Errorf("stream %+v, announced %+v", s.Info(), announced)
	}
	r := task.read(announced)
	put(t, s, dispatch.StreamText, "Hello ", "world")
	if got := r.next(); got != "Hello |world" {
		t.Errorf("read %q", got)
	}
	put(t, s, dispatch.StreamBytes, "\xff\x00", "")
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, dispatch.StreamText, "last")
	task.result <- nil
	if got := r.all(); got != "\xff\x00|last[ended]" && got != "\xff\x00|[ended]" && !strings.HasSuffix(got, "last[ended]") {
		t.Errorf("read %q", got)
	}
	if last := task.ending(); last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
	if err := s.Write(t.Context(), items(dispatch.StreamText, "late"), true); faultOf(err) != dispatch.StreamClosed {
		t.Errorf("written after the end: %v", err)
	}
	if _, err := task.port.Stream(announced.ID); !errors.Is(err, dispatch.ErrTaskOver) {
		t.Errorf("a stream of a task that is over: %v", err)
	}
	if _, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default"}); !errors.Is(err, dispatch.ErrTaskOver) {
		t.Errorf("a stream for a task that is over: %v", err)
	}
}

// TestStreamEndsBeforeTerminal: however the task ends, the end of its stream is published before the terminal event.
func TestStreamEndsBeforeTerminal(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var order publishes
	f.set(order.watch)
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	for name, tc := range map[string]struct {
		kind wire.TaskKind
		end  func(*streamed)
		want wire.TaskState
	}{
		"result":   {wire.Request, func(s *streamed) { s.result <- nil }, wire.Completed},
		"error":    {wire.Request, func(s *streamed) { s.result <- errors.New("no") }, wire.Failed},
		"canceled": {wire.Request, func(s *streamed) { a.cancel(s.id, dispatch.CancelUser); s.asked(t); s.result <- nil }, wire.Canceled},
		"ignored": {wire.Request, func(s *streamed) {
			a.cancel(s.id, dispatch.CancelUser)
			s.asked(t)
			t.Cleanup(func() { s.result <- nil })
		}, wire.Canceled},
		"detached":   {wire.Pipe, func(s *streamed) { s.result <- nil; s.detached(a); a.cancel(s.id, dispatch.CancelUser) }, wire.Canceled},
		"expired":    {wire.Pipe, func(s *streamed) { s.result <- nil; s.detached(a); a.cancel(s.id, dispatch.CancelExpired) }, wire.Completed},
		"terminated": {wire.Pipe, func(s *streamed) { s.result <- nil; s.detached(a); a.cancel(s.id, dispatch.CancelTerminated) }, wire.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			minutes := 0
			if tc.kind == wire.Pipe {
				minutes = 5
			}
			s := n.streamTask(st, "worker", tc.kind, minutes)
			made, announced := s.create("_default")
			put(t, made, dispatch.StreamText, "tail")
			tc.end(s)
			if last := s.ending(); last.State != tc.want {
				t.Errorf("%s %s", last.State, last.Error)
			}
			if got := order.of(s.id); got != "stream_data stream_end terminal" {
				t.Errorf("published %s", got)
			}
			if got := s.read(announced).all(); got != "tail[ended]" && !strings.Contains(got, "revoked") {
				t.Errorf("read %q", got)
			}
		})
	}
}

// detached waits until the handler's call has returned and the task goes on.
func (s *streamed) detached(a *served) {
	j := a.find(s.id)
	eventually(s.n.t, "the task is detached", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.machine.Detached()
	})
}

// publishes records what is published about tasks and their streams.
type publishes struct {
	mu   sync.Mutex
	seen []string // "channel type"
	all  []published
}

type published struct {
	path, query string
	body        string
}

func (p *publishes) watch(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/publish/") {
		return false
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var m struct{ Type, TaskID string }
	_ = json.Unmarshal(body, &m)
	channel := strings.Split(r.URL.Path, "/")[5]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, published{r.URL.Path, r.URL.RawQuery, string(body)})
	if strings.HasPrefix(channel, "stream.") || m.Type == "terminal" {
		p.seen = append(p.seen, channel+" "+m.Type)
	}
	return false
}

// of returns what was published about one task, without repetitions in a row.
func (p *publishes) of(task string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var words []string
	for _, s := range p.seen {
		channel, typ, _ := strings.Cut(s, " ")
		if strings.Contains(channel, task) && (len(words) == 0 || words[len(words)-1] != typ) {
			words = append(words, typ)
		}
	}
	return strings.Join(words, " ")
}

// setups returns the set-up requests so far.
func (p *publishes) setups() (all []published) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.all {
		if strings.Contains(m.path, "/setup.") {
			all = append(all, m)
		}
	}
	return all
}

// TestStreamSetup: the set-up request is exactly what the network expects, the answer comes with status 403, and each way
// in which it can go wrong is an error of its own that leaves nothing behind.
func TestStreamSetup(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	var answer atomic.Pointer[string]
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		seen.watch(w, r)
		if a := answer.Load(); a != nil && strings.Contains(r.URL.Path, "/setup.") {
			status, body, _ := strings.Cut(*a, " ")
			code := 0
			_, _ = fmt.Sscan(status, &code)
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
			return true
		}
		return false
	})
	limit := 61
	c := streamCard(t, "worker")
	c.MaxRunningTimeSec = &limit
	a := n.serve(c, st, func(cfg *Config) { n.through(f)(cfg); cfg.Timeouts.StreamSetup = time.Second })
	a.await(StateOnline)

	task := n.streamTask(st, "worker", wire.Request, 0)
	if _, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default", Metadata: json.RawMessage(`{"any":{"thing":[1]}}`)}); err != nil {
		t.Fatal(err)
	}
	if got := task.announced(); string(got.Metadata) != `{"any":{"thing":[1]}}` {
		t.Errorf("the consumer learns %s", got.Metadata)
	}
	org := "?"
	if all := seen.setups(); len(all) != 1 {
		t.Fatalf("%d set-up requests", len(all))
	} else {
		var m struct{ OrgID string }
		_ = json.Unmarshal([]byte(all[0].body), &m)
		org = m.OrgID
		want := fmt.Sprintf(`{"type":"stream_setup","protocolVersion":"2026-05-01","taskId":%[1]q,"orgId":%[2]q,"agentName":"worker","streamId":"%[1]s-1","channel":"stream.worker.%[1]s-1",`+
			`"direction":"outbound","format":"bytes","affinity":"dedicated","taskKind":"request","durationMinutes":2,"declaredStream":"_default","phase":"embedded","metadata":{"any":{"thing":[1]}}}`, task.id, org)
		if diff := cmp.Diff(want, all[0].body); diff != "" {
			t.Errorf("set-up request (-want +got):\n%s", diff)
		}
		if !strings.HasSuffix(all[0].path, "/0/setup."+org+"."+task.id+"/0") || !strings.Contains(all[0].query, "store=0") || strings.Contains(all[0].query, "meta=") ||
			!strings.Contains(all[0].query, "auth=") {
			t.Errorf("published as %s?%s", all[0].path, all[0].query)
		}
	}

	pipe := n.streamTask(st, "worker", wire.Pipe, 15)
	if _, _, err := pipe.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "chat"}); err != nil {
		t.Fatal(err)
	}
	if all := seen.setups(); !strings.Contains(all[1].body, `"durationMinutes":15,`) || !strings.Contains(all[1].body, `"taskKind":"pipe"`) || strings.Contains(all[1].body, "metadata") {
		t.Errorf("set-up request of a pipe task: %s", all[1].body)
	}

	grant := func(wrap string, token string) string {
		id := ""
		id = fmt.Sprint(task.id, "-%d")
		return fmt.Sprintf(wrap, fmt.Sprintf(`{"taskId":%q,"streamId":"%s","channel":"stream.worker.%s","direction":"outbound","phase":"embedded"%s,"tokenTtlMinutes":62.5}`, task.id, id, id, token))
	}
	for i, tc := range []struct{ answer, says string }{
		{`403 {"status":403,"message":{"ok":false,"error":{"code":"TokenGrantFailed","message":"No token for you."}}}`, "refused the stream with TokenGrantFailed: No token for you"},
		{`403 {"status":403,"message":"Forbidden"}`, "denied access"},
		{`403 `, "denied access"},
		{`200 [1,"Sent","17000000000000000"]`, "published the setup request instead of answering it"},
		{`503 {}`, "503"},
		{"403 " + grant(`{"status":403,"message":{"ok":true,"streamSetupResponse":%s}}`, ""), "has no token"},
		{`403 {"status":403,"message":{"ok":true,"streamSetupResponse":{"taskId":"x"}}}`, "cannot be used"},
		{"403 " + grant(`{"status":403,"message":{"ok":true,"streamSetupResponse":%s}}`, `,"token":"t"`), ""},
		{"403 " + grant(`{"streamSetupResponse":%s}`, `,"token":"t"`), ""},
	} {
		text := strings.ReplaceAll(tc.answer, "%d", fmt.Sprint(i+2))
		answer.Store(&text)
		_, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default"})
		switch {
		case tc.says == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case tc.says != "" && (faultOf(err) != dispatch.StreamUnavailable || !strings.Contains(err.Error(), tc.says)):
			t.Errorf("%s: %v", text, err)
		}
	}
	answer.Store(nil)
	s, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default"})
	if err != nil {
		t.Errorf("after the refusals: %v", err)
	} else if s.Info().ID != task.id+"-11" {
		t.Errorf("stream %s", s.Info().ID)
	}
	// The streams with a made-up token cannot be ended on the network, which must not hold the task up.
	task.result <- nil
	pipe.result <- errors.New("done")
	if last := task.ending(); last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
}

// TestStreamRefusedBeforeTheNetwork: what the rules forbid costs no request.
func TestStreamRefusedBeforeTheNetwork(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	f.set(seen.watch)
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	_, events := n.submit(n.api.NewConsumer(n.sb.APIKey()), "worker", text("request", "no streams"))
	plain := st.next(t)
	if _, _, err := plain.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default"}); faultOf(err) != dispatch.StreamForbidden {
		t.Errorf("without negotiation: %v", err)
	}
	plain.result <- nil
	ending(t, events)
	task := n.streamTask(st, "worker", wire.Request, 0)
	for _, r := range []dispatch.StreamRequest{
		{}, {Declared: "nope"}, {Declared: "events", Format: wire.FormatBytes}, {Declared: "events", Direction: wire.Inbound},
		{Declared: "feed"}, {Declared: "chat"}, {Declared: "cast"}, {Declared: "events", External: true}, {Declared: "cast", External: true},
	} {
		if _, _, err := task.port.CreateStream(t.Context(), r); faultOf(err) != dispatch.StreamForbidden && faultOf(err) != dispatch.StreamUndeclared {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if all := seen.setups(); len(all) != 0 {
		t.Errorf("the network was asked: %+v", all)
	}
	task.result <- nil
}

// TestStreamWriteErrors: a write that cannot be is an error and disturbs nothing.
func TestStreamWriteErrors(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	plain, bytesAnnounced := task.create("_default")
	events, eventsAnnounced := task.create("events")
	feed, _ := task.create("feed")
	for _, tc := range []struct {
		s     dispatch.Stream
		item  dispatch.StreamItem
		fault dispatch.StreamFault
		says  string
	}{
		{events, dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: []byte(`"a string"`)}, dispatch.StreamBadItem, "takes no such item"},
		{events, dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: []byte(`{`)}, dispatch.StreamBadItem, "takes no such item"},
		{events, dispatch.StreamItem{Kind: dispatch.StreamText, Data: []byte(`x`)}, dispatch.StreamBadItem, "takes events"},
		{plain, dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: []byte(`{}`)}, dispatch.StreamBadItem, "takes bytes or text"},
		{plain, dispatch.StreamItem{Kind: dispatch.StreamBytes, Data: make([]byte, maxStreamItem+1)}, dispatch.StreamBadItem, "takes no such item"},
		{feed, dispatch.StreamItem{Kind: dispatch.StreamText, Data: []byte(`x`)}, dispatch.StreamClosed, "only the consumer writes it"},
	} {
		err := tc.s.Write(t.Context(), []dispatch.StreamItem{tc.item}, true)
		if faultOf(err) != tc.fault || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v", err)
		}
	}
	if _, _, err := plain.Read(); faultOf(err) != dispatch.StreamClosed || !strings.Contains(err.Error(), "only the consumer reads it") {
		t.Errorf("read what is outbound: %v", err)
	}
	if err := plain.Activate(t.Context(), nil); faultOf(err) != dispatch.StreamForbidden {
		t.Errorf("activated what is not external: %v", err)
	}
	put(t, plain, dispatch.StreamText, "good")
	put(t, events, dispatch.StreamEvent, `{"good":1}`)
	put(t, events, dispatch.StreamEventBytes, "\x01\x02")
	for range 2 { // it may be repeated
		if err := plain.End(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := plain.Write(t.Context(), items(dispatch.StreamText, "late"), true); faultOf(err) != dispatch.StreamClosed || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("written after the end: %v", err)
	}
	if again, err := task.port.Stream(plain.Info().ID); err != nil || again.End(t.Context()) != nil || faultOf(again.Flush(t.Context())) != dispatch.StreamClosed {
		t.Errorf("looked up after the end: %v", err)
	}
	for _, id := range []string{"nope", task.id + "-4", task.id + "-0", task.id + "-01", "cast"} {
		if _, err := task.port.Stream(id); faultOf(err) != dispatch.StreamUnknown {
			t.Errorf("%s: %v", id, err)
		}
	}
	if got := task.read(bytesAnnounced).all(); got != "good[ended]" {
		t.Errorf("read %q", got)
	}
	r := task.read(eventsAnnounced)
	task.result <- errors.New("over")
	if got := r.all(); !strings.Contains(strings.ReplaceAll(got, "|", ""), `{"good":1}{"$binary":"AQI="}[ended]`) {
		t.Errorf("read %q", got)
	}
}

// TestStreamInbound and bidirectional: what the consumer writes reaches the handler, each side only what the other wrote.
func TestStreamInbound(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	feed, announced := task.create("feed")
	next, done, err := feed.Read()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := feed.Read(); faultOf(err) != dispatch.StreamClosed || !strings.Contains(err.Error(), "being read already") {
		t.Errorf("two readers: %v", err)
	}
	w := task.write(announced)
	if err := w.Write(t.Context(), stream.Text("one"), stream.Bytes([]byte{0xff})); err != nil {
		t.Fatal(err)
	}
	if err := w.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		b, err := next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range b.Items {
			got = append(got, string(i.Data))
		}
		if b.End != nil {
			got = append(got, b.End.Reason)
			break
		}
	}
	done()
	if diff := cmp.Diff([]string{"one", "\xff", "ended"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	chat, announced := task.create("chat")
	next, done, err = chat.Read()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	r, w := task.read(announced), task.write(announced)
	put(t, chat, dispatch.StreamEvent, `{"text":"AGENT> HELLO"}`)
	if got := r.next(); got != `{"text":"AGENT> HELLO"}` {
		t.Errorf("the consumer reads %q", got)
	}
	if err := w.Write(t.Context(), stream.Event(json.RawMessage(`{"text":"ping"}`))); err != nil {
		t.Fatal(err)
	}
	if b, err := next(t.Context()); err != nil || len(b.Items) != 1 || string(b.Items[0].Data) != `{"text":"ping"}` {
		t.Errorf("the handler reads %+v, %v", b, err)
	}
	// A handler that waits for its consumer is let go when the task ends.
	ended := make(chan string, 1)
	go func() {
		b, err := next(context.Background())
		ended <- fmt.Sprint(b.End, err)
	}()
	task.result <- errors.New("over")
	task.ending()
	select {
	case got := <-ended:
		if got != "&{closed } <nil>" {
			t.Errorf("the wait ended with %s", got)
		}
	case <-time.After(patience):
		t.Error("a reader waits although the task is over")
	}
}

// TestStreamShared: one writer for all tasks; each task's consumer is notified; nobody but the last ends it, and no end is
// marked.
func TestStreamShared(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	f.set(seen.watch)
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	one, two := n.streamTask(st, "worker", wire.Pipe, 5), n.streamTask(st, "worker", wire.Pipe, 7)
	first, firstAnnounced := one.create("cast")
	second, secondAnnounced := two.create("cast")
	if firstAnnounced.Channel != "stream.worker.cast" || secondAnnounced.Channel != firstAnnounced.Channel || firstAnnounced.Token == secondAnnounced.Token {
		t.Errorf("announced as %+v and %+v", firstAnnounced, secondAnnounced)
	}
	if !first.Info().First || second.Info().First || !first.Info().Shared {
		t.Errorf("%+v and %+v", first.Info(), second.Info())
	}
	again, created, err := one.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "cast"})
	if err != nil || created || again != first {
		t.Errorf("the same task got %v, %v, %v", again, created, err)
	}
	phases := func() (all []string) {
		for _, m := range seen.setups() {
			var s struct {
				Phase           string
				DurationMinutes int
			}
			_ = json.Unmarshal([]byte(m.body), &s)
			all = append(all, fmt.Sprint(s.Phase, " ", s.DurationMinutes))
		}
		return all
	}
	if diff := cmp.Diff([]string{"embedded 5", "activate 7"}, phases()); diff != "" {
		t.Errorf("set-ups (-want +got):\n%s", diff)
	}
	r1, r2 := one.read(firstAnnounced), two.read(secondAnnounced)
	put(t, first, dispatch.StreamEvent, `{"n":1}`)
	for _, r := range []*reading{r1, r2} {
		if got := r.next(); got == "[gap of 1]" || got != `{"n":1}` {
			t.Errorf("read %q", got)
		}
	}
	one.result <- errors.New("over")
	if last := one.ending(); last.State != wire.Failed {
		t.Errorf("%s %s", last.State, last.Error)
	}
	if err := first.Write(t.Context(), items(dispatch.StreamEvent, `{}`), true); faultOf(err) != dispatch.StreamClosed {
		t.Errorf("a task that has let go writes: %v", err)
	}
	put(t, second, dispatch.StreamEvent, `{"n":2}`)
	if got := r2.next(); got != `{"n":2}` {
		t.Errorf("read %q", got)
	}
	two.result <- errors.New("over")
	two.ending()
	seen.mu.Lock()
	for _, s := range seen.seen {
		if strings.HasSuffix(s, "stream_end") {
			t.Errorf("a shared stream was marked as ended: %s", s)
		}
	}
	seen.mu.Unlock()

	// A later task has a writer of its own, whose numbers go on: nobody takes its messages for old ones.
	three := n.streamTask(st, "worker", wire.Pipe, 5)
	third, thirdAnnounced := three.create("cast")
	put(t, third, dispatch.StreamEvent, `{"n":3}`)
	r3 := three.read(thirdAnnounced)
	for got := ""; got != `{"n":3}`; {
		if got = r3.next(); strings.HasPrefix(got, "[e") || strings.HasPrefix(got, "[f") {
			t.Fatalf("read %q", got)
		}
	}
	three.result <- errors.New("over")
}

// TestStreamSharedTogether: tasks that want the same stream at the same time make it once, and a failure reaches all.
func TestStreamSharedTogether(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	var refuse atomic.Bool
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		seen.watch(w, r)
		if refuse.Load() && strings.Contains(r.URL.Path, "/setup.") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"status":403,"message":{"ok":false,"error":{"code":"TokenGrantFailed","message":"Not now."}}}`))
			return true
		}
		return false
	})
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	var tasks []*streamed
	for range 3 {
		tasks = append(tasks, n.streamTask(st, "worker", wire.Pipe, 5))
	}
	together := func() (errs []error) {
		var all sync.WaitGroup
		var mu sync.Mutex
		for _, s := range tasks {
			for range 2 { // and each task twice
				all.Go(func() {
					_, _, err := s.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "cast"})
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				})
			}
		}
		all.Wait()
		return errs
	}
	refuse.Store(true)
	for _, err := range together() {
		if faultOf(err) != dispatch.StreamUnavailable || !strings.Contains(err.Error(), "Not now") {
			t.Errorf("refused with %v", err)
		}
	}
	refuse.Store(false)
	before := len(seen.setups())
	for _, err := range together() {
		if err != nil {
			t.Error(err)
		}
	}
	phases := map[string]int{}
	for _, m := range seen.setups()[before:] {
		var s struct{ Phase string }
		_ = json.Unmarshal([]byte(m.body), &s)
		phases[s.Phase]++
	}
	if phases["embedded"] != 1 || phases["activate"] != 2 || len(phases) != 2 {
		t.Errorf("set-ups %v", phases)
	}
	for _, s := range tasks {
		s.result <- errors.New("over")
	}
}

// TestStreamExternal: another process gets what it needs to write the stream; here it cannot be written, and the consumer
// learns of it when it is activated.
func TestStreamExternal(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	f.set(seen.watch)
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	s, created, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default", External: true, Metadata: json.RawMessage(`{"a":1}`)})
	if err != nil || !created {
		t.Fatal(err)
	}
	e := s.Info().External
	if e == nil || e.Token == "" || e.SubscribeKey != task.keys.SubscribeKey || e.PublishKey == "" || e.Origin != "http://"+f.addr || time.Until(e.Expires) < 5*time.Minute {
		t.Errorf("external: %+v", e)
	}
	if faultOf(s.Write(t.Context(), items(dispatch.StreamText, "x"), true)) != dispatch.StreamClosed || faultOf(s.Flush(t.Context())) != dispatch.StreamClosed {
		t.Error("an external stream was written here")
	}
	if _, _, err := s.Read(); faultOf(err) != dispatch.StreamClosed {
		t.Errorf("an external stream was read here: %v", err)
	}
	if active := a.sessionOfTest().streams.active.Load(); active != 0 {
		t.Errorf("%d active streams", active)
	}
	if err := s.Activate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := task.announced(); string(got.Metadata) != `{"a":1}` {
		t.Errorf("announced with %s", got.Metadata)
	}
	if err := s.Activate(t.Context(), json.RawMessage(`{"b":2}`)); err != nil {
		t.Fatal(err)
	}
	if got := task.announced(); string(got.Metadata) != `{"b":2}` {
		t.Errorf("announced with %s", got.Metadata)
	}
	var phases []string
	for _, m := range seen.setups() {
		var s struct{ Phase string }
		_ = json.Unmarshal([]byte(m.body), &s)
		phases = append(phases, s.Phase)
	}
	if diff := cmp.Diff([]string{"token_request", "activate", "activate"}, phases); diff != "" {
		t.Errorf("set-ups (-want +got):\n%s", diff)
	}
	if err := s.End(t.Context()); err != nil {
		t.Error(err)
	}
	task.result <- errors.New("over")
	task.ending()
	if got := seen.of(task.id); got != "terminal" {
		t.Errorf("published %s", got)
	}
}

func (s *served) sessionOfTest() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.session
}

// TestStreamFails: a stream that has failed takes every task with it, and each consumer reads why.
func TestStreamFails(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	one, two := n.streamTask(st, "worker", wire.Pipe, 5), n.streamTask(st, "worker", wire.Pipe, 5)
	first, _ := one.create("cast")
	two.create("cast")
	own, ownAnnounced := two.create("_default")
	put(t, own, dispatch.StreamText, "x")
	r := two.read(ownAnnounced)
	go func() { <-two.ctx.Done(); two.result <- nil }()
	one.result <- nil
	one.detached(a)
	if err := first.Fail(t.Context(), "The feed broke off."); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*streamed{one, two} {
		if last := s.ending(); last.State != wire.Failed || last.Error != "The feed broke off." {
			t.Errorf("%s %s", last.State, last.Error)
		}
	}
	if got := r.all(); got != "x[ended]" {
		t.Errorf("another stream of a task that failed: %q", got)
	}

	three := n.streamTask(st, "worker", wire.Request, 0)
	s, announced := three.create("_default")
	put(t, s, dispatch.StreamText, "y")
	r = three.read(announced)
	if err := s.Fail(t.Context(), "No more."); err != nil {
		t.Fatal(err)
	}
	if got := r.all(); got != "y[failedNo more.]" {
		t.Errorf("read %q", got)
	}
	three.result <- nil
	if last := three.ending(); last.State != wire.Failed || last.Error != "No more." {
		t.Errorf("%s %s", last.State, last.Error)
	}
}

// TestStreamOfDetachedTask: a pipe task that goes on after its handler has returned keeps its streams and can end itself.
func TestStreamOfDetachedTask(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	for _, held := range []bool{true, false} { // with and without a process that has the task
		task := n.streamTask(st, "worker", wire.Pipe, 5)
		s, announced := task.create("events")
		r := task.read(announced)
		if err := task.port.End(nil); !errors.Is(err, dispatch.ErrNotDetached) {
			t.Errorf("ended before the handler has returned: %v", err)
		}
		if held {
			if !task.port.Detached() {
				t.Fatal("not detached")
			}
			go func() { <-task.ctx.Done(); task.result <- nil }()
		} else {
			task.result <- nil
			task.detached(a)
		}
		put(t, s, dispatch.StreamEvent, `{"still":"here"}`)
		if got := r.next(); got != `{"still":"here"}` {
			t.Errorf("read %q", got)
		}
		var failure *dispatch.TaskFailure
		if held {
			failure = &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "Enough."}
		}
		if err := task.port.End(failure); err != nil {
			t.Error(err)
		}
		if err := task.port.End(nil); !errors.Is(err, dispatch.ErrTaskOver) {
			t.Errorf("ended again: %v", err)
		}
		if last := task.ending(); held && (last.State != wire.Failed || last.Error != "Enough.") || !held && last.State != wire.Completed {
			t.Errorf("%s %s", last.State, last.Error)
		}
		if got := r.all(); got != "[ended]" {
			t.Errorf("read %q", got)
		}
	}
}

// TestStreamsArePresent: the network and the event bus learn of the streams that are open.
func TestStreamsArePresent(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var announced atomic.Int64
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if state, err := wire.DecodePresenceState([]byte(r.URL.Query().Get("state"))); err == nil {
			announced.Store(int64(state.ActiveStreams))
		}
		return false
	})
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	news := a.events.Follow(event.StreamOpened, event.StreamClosed)
	defer news.Close()
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	presented := func(want int64) {
		t.Helper()
		eventually(t, fmt.Sprint(want, " active streams are announced"), func() bool { return announced.Load() == want })
	}
	one, _ := task.create("_default")
	task.create("cast")
	presented(2)
	if err := one.End(t.Context()); err != nil {
		t.Error(err)
	}
	presented(1)
	task.result <- errors.New("over")
	task.ending()
	presented(0)
	var got []string
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got = append(got, func() string {
			e, err := news.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(e.Type, " ", e.State, " ", strings.TrimPrefix(e.Reason, task.id), " ", e.TaskID == task.id)
		}())
		cancel()
	}
	if diff := cmp.Diff([]string{"stream_opened outbound -1 true", "stream_opened outbound cast true", "stream_closed ended -1 true", "stream_closed ended cast true"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestStreamGrace: a stream that is written can be held back until the consumer had time to open it.
func TestStreamGrace(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	const grace = 300 * time.Millisecond
	for declared, waits := range map[string]bool{"_default": true, "chat": true, "feed": false, "cast": true} {
		began := time.Now()
		if _, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: declared, Grace: grace}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); waits != (took >= grace) {
			t.Errorf("%s took %v", declared, took)
		}
	}
	began := time.Now()
	if _, created, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "cast", Grace: time.Hour}); err != nil || created || time.Since(began) > time.Minute {
		t.Errorf("a stream that is there was waited for: %v", err)
	}
	task.result <- errors.New("over")
}

// TestStreamNobodyWaitsFor: a stream whose creation was given up is let go of.
func TestStreamNobodyWaitsFor(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	arrived, release := make(chan struct{}), make(chan struct{})
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/setup.") {
			close(arrived)
			<-release
		}
		return false
	})
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, _, err := task.port.CreateStream(ctx, dispatch.StreamRequest{Declared: "_default"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(release)
	table := a.sessionOfTest().streams
	eventually(t, "nothing is left", func() bool {
		table.mu.Lock()
		defer table.mu.Unlock()
		return len(table.open) == 0 && len(table.handles) == 0
	})
	task.result <- errors.New("over")
}

// TestStreamsEndWithTheAgent: a drain ends every writer, and its reader sees the end.
func TestStreamsEndWithTheAgent(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, func(c *Config) { c.Drain = 0 })
	a.await(StateOnline)
	var all []*reading
	for range 3 {
		task := n.streamTask(st, "worker", wire.Pipe, 5)
		s, announced := task.create("_default")
		put(t, s, dispatch.StreamText, "tail")
		all = append(all, task.read(announced))
		go func() { <-task.ctx.Done(); task.result <- nil }()
	}
	a.stop()
	if err := a.ended(); err != nil {
		t.Error(err)
	}
	for _, r := range all {
		if got := r.all(); got != "tail[ended]" {
			t.Errorf("read %q", got)
		}
	}
}
