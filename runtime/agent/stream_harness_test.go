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
	"testing"

	"github.com/blocksd/blocksd/dispatch"
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
