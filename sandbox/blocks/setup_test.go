package blocks

import (
	"encoding/json"
	"maps"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// streamed registers an agent with streams of all kinds.
func streamed(s *AgentSpec) {
	s.Streams = map[string]card.Stream{
		"_default": {Direction: "outbound", Format: "bytes", Affinity: "dedicated"},
		"chat":     {Direction: "bidirectional", Format: "events", Affinity: "dedicated"},
		"in":       {Direction: "inbound", Format: "events", Affinity: "dedicated"},
		"news":     {Direction: "outbound", Format: "events", Affinity: "shared"},
	}
}

// streaming submits a task with streams and lets it run.
func (w *world) streaming(kind wire.TaskKind) SendResult {
	w.t.Helper()
	req := SendRequest{AgentName: "a", BillingMode: wire.Free, Kind: kind, Stream: true}
	if kind == wire.Pipe {
		req.Minutes = 60
	}
	r, dispatch, err := w.SendMessage(w.owner, req)
	if err != nil {
		w.t.Fatal(err)
	}
	dispatch()
	w.event(r, "x", wire.RunningEvent(r.TaskID))
	return r
}

// setupOf is a correct request for the sole stream of a request task.
func setupOf(r SendResult, kind wire.TaskKind, change map[string]any) (channel string, body []byte) {
	m := map[string]any{
		"type": "stream_setup", "protocolVersion": wire.ProtocolVersion, "taskId": r.TaskID, "orgId": r.OrgID, "agentName": "a",
		"streamId": r.TaskID + "-1", "channel": "stream.a." + r.TaskID + "-1", "direction": "outbound", "format": "bytes", "affinity": "dedicated",
		"taskKind": kind, "durationMinutes": 60, "declaredStream": "_default", "phase": "embedded",
	}
	maps.Copy(m, change)
	for k, v := range m {
		if v == nil {
			delete(m, k)
		}
	}
	raw, _ := json.Marshal(m)
	return wire.SetupChannel(r.OrgID, r.TaskID), raw
}

func (w *world) ask(r SendResult, kind wire.TaskKind, change map[string]any) string {
	w.t.Helper()
	channel, body := setupOf(r, kind, change)
	status, answer, ok := w.Intercept(wire.Free, pubsub.Publication{Channel: channel, Body: body})
	if !ok || status != 403 {
		w.t.Fatalf("setup answered %d, %v", status, ok)
	}
	return string(answer)
}

var tokenText = regexp.MustCompile(`"token":"([A-Za-z0-9_=-]+)"`)

func (w *world) token(answer string) string {
	w.t.Helper()
	m := tokenText.FindStringSubmatch(answer)
	if m == nil {
		w.t.Fatalf("no token in %s", answer)
	}
	return m[1]
}

func plain(answer string, r SendResult) string {
	return strings.ReplaceAll(tokenText.ReplaceAllString(answer, `"token":"T"`), r.TaskID, "TASK")
}

// last is the newest event of a task.
func (w *world) last(r SendResult) string {
	all := w.space.History(pubsub.HistoryQuery{Channel: r.Channel, Max: 1})
	return string(all[len(all)-1].Body)
}

func (w *world) allows(token, channel string, read, write bool) {
	w.t.Helper()
	for right, want := range map[access.Right]bool{access.Read: read, access.Write: write} {
		if err := w.Environment(wire.Free).Access.Check(token, "anyone", right, channel); (err == nil) != want {
			w.t.Errorf("right %d on %s: %v, want %v", right, channel, err, want)
		}
	}
}

func TestStreamSetup(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 4, streamed)
		w.online("a", "x")
		r := w.streaming(wire.Request)
		got := w.ask(r, wire.Request, map[string]any{"metadata": map[string]any{"rate": 3}})
		want := `{"message":{"ok":true,"streamSetupResponse":{"taskId":"TASK","streamId":"TASK-1","channel":"stream.a.TASK-1","direction":"outbound","phase":"embedded","token":"T","tokenTtlMinutes":62}},"status":403}`
		if plain(got, r) != want {
			t.Errorf("answer %s\nwant %s", plain(got, r), want)
		}
		channel := "stream.a." + r.TaskID + "-1"
		w.allows(w.token(got), channel, false, true)
		event := w.last(r)
		want = `{"type":"progress","taskId":"TASK","streamEvent":"stream_started","declaredStream":"_default","streams":{"TASK-1":{"direction":"outbound","format":"bytes","affinity":"dedicated","channel":"stream.a.TASK-1","token":"T","metadata":{"rate":3}}},"protocolVersion":"2026-05-01"}`
		if plain(event, r) != want {
			t.Errorf("event %s\nwant %s", plain(event, r), want)
		}
		consumer := w.token(event)
		w.allows(consumer, channel, true, false)
		w.allows(consumer, r.Channel, false, false)

		// Again, as after a lost answer: the same consumer's token is announced.
		w.ask(r, wire.Request, nil)
		if again := w.token(w.last(r)); again != consumer {
			t.Error("a repeated request announced another token")
		}

		w.event(r, "x", wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Completed}))
		w.alive("a", "x", 0, 50*time.Second)
		w.allows(consumer, channel, true, false) // late readers have a minute
		w.alive("a", "x", 0, 15*time.Second)
		w.allows(consumer, channel, false, false)
		w.allows(w.token(got), channel, false, true) // a shared stream is written with the token of its first task
		if got := plain(w.ask(r, wire.Request, nil), r); !strings.Contains(got, "the task has ended") {
			t.Error(got)
		}
	})
}

func TestStreamPhasesAndDirections(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 4, streamed)
		w.online("a", "x")
		r := w.streaming(wire.Pipe)
		id, channel := r.TaskID+"-1", "stream.a."+r.TaskID+"-1"

		in := map[string]any{"direction": "inbound", "format": "events", "declaredStream": "in"}
		in["phase"] = "activate"
		if got := plain(w.ask(r, wire.Pipe, in), r); !strings.Contains(got, "has not been set up") {
			t.Error(got)
		}
		in["phase"] = "token_request"
		before := len(w.events(r))
		w.allows(w.token(w.ask(r, wire.Pipe, in)), channel, true, false)
		if len(w.events(r)) != before {
			t.Error("a request for a token alone is announced")
		}
		in["phase"] = "activate"
		want := `{"message":{"ok":true,"streamSetupResponse":{"taskId":"TASK","streamId":"TASK-1","channel":"stream.a.TASK-1","direction":"inbound","phase":"activate","tokenTtlMinutes":62}},"status":403}`
		if got := plain(w.ask(r, wire.Pipe, in), r); got != want {
			t.Errorf("answer %s\nwant %s", got, want)
		}
		w.allows(w.token(w.last(r)), channel, false, true)
		_ = id

		chat := map[string]any{"direction": "bidirectional", "format": "events", "declaredStream": "chat", "streamId": "c-2", "channel": "stream.a.c-2"}
		w.allows(w.token(w.ask(r, wire.Pipe, chat)), "stream.a.c-2", true, true)
		w.allows(w.token(w.last(r)), "stream.a.c-2", true, true)

		news := map[string]any{"format": "events", "affinity": "shared", "declaredStream": "news", "streamId": "news", "channel": "stream.a.news"}
		w.ask(r, wire.Pipe, news)
		other := w.streaming(wire.Pipe)
		news["phase"] = "activate" // its agent has it already
		if got := w.ask(other, wire.Pipe, news); !strings.Contains(got, `"ok":true`) || strings.Contains(got, "token\"") {
			t.Error(got)
		}
		w.allows(w.token(w.last(other)), "stream.a.news", true, false)
	})
}

func TestStreamRefusals(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 8, streamed)
		w.online("a", "x")
		r, pipe := w.streaming(wire.Request), w.streaming(wire.Pipe)
		none := w.submit("a")
		w.event(none, "x", wire.RunningEvent(none.TaskID))
		tests := []struct {
			name   string
			task   SendResult
			kind   wire.TaskKind
			change map[string]any
			want   string
		}{
			{"no affinity", r, wire.Request, map[string]any{"affinity": nil}, "affinity missing"},
			{"phase", r, wire.Request, map[string]any{"phase": "begin"}, `phase "begin" is not one of embedded, token_request, activate`},
			{"direction", r, wire.Request, map[string]any{"direction": "up"}, `direction "up" is not one of outbound, inbound, bidirectional`},
			{"format", r, wire.Request, map[string]any{"format": "text"}, `format "text" is not one of bytes, events`},
			{"type", r, wire.Request, map[string]any{"type": "x"}, `type "x" is not one of stream_setup`},
			{"version", r, wire.Request, map[string]any{"protocolVersion": nil}, "protocolVersion missing"},
			{"kind", r, wire.Request, map[string]any{"taskKind": "job"}, `taskKind "job" is not one of request, pipe`},
			{"other kind", r, wire.Pipe, nil, "taskKind is not that of the task"},
			{"task", r, wire.Request, map[string]any{"taskId": "t"}, "taskId and orgId are not those of the channel"},
			{"org", r, wire.Request, map[string]any{"orgId": "o"}, "taskId and orgId are not those of the channel"},
			{"agent", r, wire.Request, map[string]any{"agentName": "b", "channel": "stream.b." + r.TaskID + "-1"}, "the task belongs to another agent"},
			{"stream", r, wire.Request, map[string]any{"streamId": "a b"}, "streamId must have 1 to 92 letters, digits, _ and -"},
			{"channel", r, wire.Request, map[string]any{"channel": "stream.a.x"}, "channel is not that of the agent and the stream"},
			{"duration", r, wire.Request, map[string]any{"durationMinutes": 0}, "durationMinutes must be more than 0 and at most 43200"},
			{"no duration", r, wire.Request, map[string]any{"durationMinutes": nil}, "durationMinutes must be more than 0 and at most 43200"},
			{"metadata", r, wire.Request, map[string]any{"metadata": 5}, "metadata is not an object"},
			{"inbound request", r, wire.Request, map[string]any{"direction": "inbound"}, "a request task has outbound, dedicated streams of its own only"},
			{"external request", r, wire.Request, map[string]any{"phase": "token_request"}, "a request task has outbound, dedicated streams of its own only"},
			{"external shared", pipe, wire.Pipe, map[string]any{"affinity": "shared", "phase": "token_request"}, "a shared stream cannot be external"},
			{"undeclared", pipe, wire.Pipe, map[string]any{"declaredStream": "x"}, "the agent declares no stream x"},
			{"not as declared", pipe, wire.Pipe, map[string]any{"declaredStream": "chat"}, "direction, format or affinity are not those that the agent declares for the stream chat"},
			{"no streams", none, wire.Request, nil, "the task has no streams"},
			{"unknown", SendResult{TaskID: "t", OrgID: "o1", Channel: r.Channel}, wire.Request, nil, "the task is unknown"},
		}
		for _, tt := range tests {
			before := len(w.events(r)) + len(w.events(pipe)) + len(w.events(none))
			got := w.ask(tt.task, tt.kind, tt.change)
			text, _ := json.Marshal(tt.want)
			want := `{"message":{"error":{"code":"InvalidArgument","message":` + string(text) + `},"ok":false},"status":403}`
			if got != want {
				t.Errorf("%s: %s\nwant %s", tt.name, got, want)
			}
			if after := len(w.events(r)) + len(w.events(pipe)) + len(w.events(none)); after != before {
				t.Errorf("%s: the refusal left an event", tt.name)
			}
		}
		for _, channel := range []string{"u.o1.t", "setup.o1", "setups.o1.t"} {
			if _, _, ok := w.Intercept(wire.Free, pubsub.Publication{Channel: channel, Body: []byte(`{}`)}); ok {
				t.Errorf("a message on %s was taken", channel)
			}
		}
		if _, answer, _ := w.Intercept(wire.Paid, pubsub.Publication{Channel: wire.SetupChannel("o1", r.TaskID), Body: []byte(`[]`)}); !strings.Contains(string(answer), "cannot be read") {
			t.Errorf("%s", answer)
		}
		synctest.Wait()
	})
}

func FuzzStreamSetup(f *testing.F) {
	n, err := New(Config{Playground: wire.Keyset{PublishKey: "p", SubscribeKey: "s"}, Network: wire.Keyset{PublishKey: "q", SubscribeKey: "t"}})
	if err != nil {
		f.Fatal(err)
	}
	_, body := setupOf(SendResult{TaskID: "t", OrgID: "o"}, wire.Request, nil)
	f.Add("setup.o.t", body)
	f.Add("setup.o.t", []byte(`{"metadata":{},"durationMinutes":1e400}`))
	f.Fuzz(func(t *testing.T, channel string, body []byte) {
		status, answer, ok := n.Intercept(wire.Free, pubsub.Publication{Channel: channel, Body: body})
		if ok && (status != 403 || !json.Valid(answer)) {
			t.Errorf("%d %s", status, answer)
		}
	})
}

// TestStreamsAreKept: a stream that was set up before a restart can be activated after it, and its consumer's token
// ends with the task.
func TestStreamsAreKept(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 4, streamed)
		w.online("a", "x")
		r := w.streaming(wire.Request)
		w.ask(r, wire.Request, nil)
		raw, err := json.Marshal(w.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		cfg := w.cfg
		cfg.State = new(State)
		if err := json.Unmarshal(raw, cfg.State); err != nil {
			t.Fatal(err)
		}
		again, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		channel, body := setupOf(r, wire.Request, map[string]any{"phase": "activate"})
		if _, answer, _ := again.Intercept(wire.Free, pubsub.Publication{Channel: channel, Body: body}); !strings.Contains(string(answer), `"ok":true`) {
			t.Errorf("activated after a restart: %s", answer)
		}
		before, after := w.tasks.byID[r.TaskID].Streams, again.tasks.byID[r.TaskID].Streams
		if id := r.TaskID + "-1"; after[id] == nil || *after[id] != *before[id] || after[id].Token == "" {
			t.Errorf("%+v, before: %+v", after[id], before[id])
		}
	})
}
