package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// streaming is a consumer of tasks with streams.
type streaming struct {
	t   *testing.T
	ctx context.Context
	*system.Consumer
}

func consumer(t *testing.T, env system.Env) *streaming {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), system.CallDeadline)
	t.Cleanup(cancel)
	c, err := system.NewConsumer(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &streaming{t, ctx, c}
}

func (c *streaming) submit(agent, text string, minutes int) system.Submitted {
	c.t.Helper()
	s, err := c.SubmitStreaming(c.ctx, agent, text, minutes)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// stream waits for the announcement of a stream.
func (c *streaming) stream(task system.Submitted, name string) system.Stream {
	c.t.Helper()
	var found system.Stream
	system.Eventually(c.t, system.CallDeadline, "stream "+name+" is announced", func() bool {
		all, err := c.Streams(c.ctx, task)
		if err != nil {
			c.t.Fatal(err)
		}
		var ok bool
		found, ok = all[name]
		return ok
	})
	return found
}

// read reads a stream until it ends, or until enough says so.
func (c *streaming) read(s system.Stream, enough func(all string) bool) (all, end string) {
	c.t.Helper()
	err := c.ReadStream(c.ctx, s, func(m system.StreamMessage) bool {
		if m.Type == "stream_end" {
			end = strings.TrimSpace("ended " + m.Failure)
			return false
		}
		all += m.Text()
		return enough == nil || !enough(all)
	})
	if err != nil {
		c.t.Errorf("%v, after %q", err, all)
	}
	return all, end
}

func (c *streaming) end(task system.Submitted) string {
	c.t.Helper()
	e, err := c.Await(c.ctx, task)
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(e.State + " " + e.Error)
}

// artifact returns the text of the only artifact of a task that is over.
func (c *streaming) artifact(task system.Submitted) string {
	c.t.Helper()
	events, err := c.History(c.ctx, task)
	if err != nil {
		c.t.Fatal(err)
	}
	i := slices.IndexFunc(events, func(e system.Event) bool { return e.Type == "artifact" })
	if i < 0 {
		c.t.Fatalf("task %s has no artifact", task.ID)
	}
	return artifactText(c.t, events[i])
}

func (c *streaming) cancel(task system.Submitted) {
	c.t.Helper()
	if err := c.CancelTask(c.ctx, task); err != nil {
		c.t.Fatal(err)
	}
}

// TestStreamingHandlers: what the reference handlers with streams promise.
func TestStreamingHandlers(t *testing.T) {
	_, env := bin.Sandbox(t, bin.Plugins())
	n := daemonOn(t, env, bin.Plugins(), "") // dev would send examples, which the chat remembers

	t.Run("echo_stream", func(t *testing.T) {
		c := consumer(t, n.Env)
		task := c.submit("echo_stream", "Hello from echo_stream", 0)
		s := c.stream(task, "_default")
		if s.ID != task.ID+"-1" || s.Direction != "outbound" || s.Format != "bytes" {
			t.Errorf("announced %+v", s)
		}
		if all, end := c.read(s, nil); all != "Hello from echo_stream" || end != "ended" {
			t.Errorf("read %q, %q", all, end)
		}
		if end := c.end(task); end != "completed" || c.artifact(task) != "Hello from echo_stream" {
			t.Errorf("%s with %q", end, c.artifact(task))
		}
		plain, err := c.Submit(c.ctx, "echo_stream", "no stream")
		if err != nil {
			t.Fatal(err)
		}
		if end := c.end(plain); end != "completed" || c.artifact(plain) != "no stream" {
			t.Errorf("without a stream: %s with %q", end, c.artifact(plain))
		}
	})
	t.Run("stock_sim", func(t *testing.T) {
		c := consumer(t, n.Env)
		task := c.submit("stock_sim", "aapl, msft", 1)
		s := c.stream(task, "quotes")
		all, _ := c.read(s, func(all string) bool { return strings.Count(all, `"tick":2`) == 2 })
		for i, symbol := range []string{"AAPL", "MSFT", "AAPL", "MSFT"} {
			decoder := json.NewDecoder(strings.NewReader(all))
			var q struct {
				Type, Symbol  string
				Tick          int
				Price, Change *float64
				At            time.Time
			}
			for range i + 1 {
				if err := decoder.Decode(&q); err != nil {
					t.Fatal(err)
				}
			}
			if q.Type != "quote" || q.Symbol != symbol || q.Tick != i/2+1 || q.Price == nil || q.Change == nil || time.Since(q.At) > time.Hour {
				t.Errorf("quote %d is %+v", i, q)
			}
		}
		c.cancel(task)
		if _, end := c.read(s, nil); end != "ended" {
			t.Errorf("the stream of a cancelled task: %q", end)
		}
		if end := c.end(task); end != "canceled" {
			t.Errorf("it ends %s", end)
		}
	})
	t.Run("bidi_chat", func(t *testing.T) {
		c := consumer(t, n.Env)
		task := c.submit("bidi_chat", "", 1)
		s := c.stream(task, "chat")
		say := func(seq int, text string) {
			t.Helper()
			err := c.WriteStream(c.ctx, s, map[string]any{"type": "stream_events", "protocolVersion": "2026-05-01", "streamId": s.ID, "seq": seq,
				"ts": 1, "encoding": "utf8", "events": []any{map[string]string{"text": text}}})
			if err != nil {
				t.Fatal(err)
			}
		}
		say(1, "ping")
		say(2, "bye")
		// The raw reader gets what it wrote itself, too.
		all, _ := c.read(s, func(all string) bool { return strings.Contains(all, "AGENT> BYE") })
		for _, want := range []string{`{"text":"AGENT> OPENING GREETING"}`, `{"text":"AGENT> PING"}`, `{"text":"AGENT> BYE"}`} {
			if !strings.Contains(all, want) {
				t.Errorf("%s is not in %s", want, all)
			}
		}
		if end := c.end(task); end != "completed" {
			t.Errorf("it ends %s", end)
		}
	})
	t.Run("advanced_stream", func(t *testing.T) {
		c := consumer(t, n.Env)
		task, other := c.submit("advanced_stream", "3", 1), c.submit("advanced_stream", "", 1)
		events, text, cast := c.stream(task, "events"), c.stream(task, "bytes"), c.stream(task, "broadcast")
		if cast.Channel != c.stream(other, "broadcast").Channel || cast.Affinity != "shared" {
			t.Errorf("the broadcast is %+v", cast)
		}
		if all, end := c.read(text, nil); all != "chunk 1\nchunk 2\nchunk 3\n" || end != "ended" {
			t.Errorf("read %q, %q", all, end)
		}
		if all, end := c.read(events, nil); strings.Count(all, `"label":"event #`) != 3 || end != "ended" {
			t.Errorf("read %q, %q", all, end)
		}
		if end := c.end(task); end != "completed" {
			t.Errorf("it ends %s", end)
		}
		// The other task goes on, and so does the broadcast.
		if all, _ := c.read(c.stream(other, "broadcast"), func(all string) bool { return strings.Count(all, "broadcast") > 5 }); !strings.Contains(all, `"kind":"broadcast"`) {
			t.Errorf("read %q", all)
		}
		c.cancel(other)
		if end := c.end(other); end != "canceled" {
			t.Errorf("it ends %s", end)
		}
	})
	t.Run("chat", func(t *testing.T) {
		c := consumer(t, n.Env)
		for _, say := range []struct{ text, want string }{
			{"first", `You said "first", and that is the first thing you tell me.`},
			{"second", `You said "second". Before that, you said "first". That makes 2 messages.`},
		} {
			text, want := say.text, say.want
			task := c.submit("chat", text, 0)
			if all, end := c.read(c.stream(task, "_default"), nil); all != want || end != "ended" {
				t.Errorf("read %q, %q", all, end)
			}
			if end := c.end(task); end != "completed" || c.artifact(task) != want {
				t.Errorf("%s with %q", end, c.artifact(task))
			}
		}
	})
	n.Stop(t)
}

// TestDetachedPipe: a pipe task goes on after its handler has returned, writes, and ends itself.
func TestDetachedPipe(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	c := consumer(t, n.Env)
	for name, tc := range map[string]struct{ step, want, text string }{
		"completes":        {`{"detach":{"name":"log","chunk":"x","count":3,"every":0.05}}`, "completed", "xxx"},
		"fails":            {`{"detach":{"name":"log","chunk":"x","count":2,"every":0.05,"fail":"The sensor is gone."}}`, "failed The sensor is gone.", "xx"},
		"ends with result": {`{"write":{"name":"log","chunks":["y"],"end":false}},{"complete":true}`, "completed", "y"},
	} {
		task := c.submit("scripted", "["+tc.step+"]", 5)
		if all, end := c.read(c.stream(task, "log"), nil); all != tc.text || end != "ended" {
			t.Errorf("%s: read %q, %q", name, all, end)
		}
		if end := c.end(task); end != tc.want {
			t.Errorf("%s: it ends %s", name, end)
		}
	}
	// Cancelled: what goes on in the process hears of it by its next write.
	task := c.submit("scripted", `[{"detach":{"name":"log","chunk":"x","every":0.05}}]`, 5)
	s := c.stream(task, "log")
	c.read(s, func(all string) bool { return len(all) >= 3 })
	c.cancel(task)
	if _, end := c.read(s, nil); end != "ended" {
		t.Errorf("the stream of a cancelled task: %q", end)
	}
	if end := c.end(task); end != "canceled" {
		t.Errorf("it ends %s", end)
	}
	if out := n.Run(t, n.Env, "handlers", "--json"); !strings.Contains(out.Stdout, `"scripted"`) {
		t.Errorf("handlers: %s", out.Stdout)
	}
	n.Stop(t)
}

// TestStreamMisuse: everything that a handler can ask for wrongly is answered with one sentence, and disturbs nothing.
func TestStreamMisuse(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	c := consumer(t, n.Env)
	task := c.submit("badhandler", "stream-misuse", 5)
	log, ticks := c.stream(task, "log"), c.stream(task, "ticks")
	if all, end := c.read(log, nil); all != "good" || end != "ended" {
		t.Errorf("read %q, %q", all, end)
	}
	if all, _ := c.read(ticks, func(all string) bool { return all != "" }); all != `{"good":2}` {
		t.Errorf("read %q", all)
	}
	var said string
	system.Eventually(t, system.CallDeadline, "the handler answers", func() bool {
		events, err := c.History(c.ctx, task)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(events, func(e system.Event) bool { return e.Type == "artifact" }); i >= 0 {
			said = artifactText(t, events[i])
		}
		return said != ""
	})
	c.cancel(task)
	if end := c.end(task); end != "canceled" {
		t.Errorf("it ends %s", end)
	}
	want := `undeclared: InvalidArgument: the agent card declares no stream "nope", but feed, log, ticks, upper
not named: InvalidArgument: the agent card declares several streams, so the stream must be named: feed, log, ticks, upper
wrong direction: InvalidArgument: the agent card declares stream "log" as outbound, not as inbound
wrong format: InvalidArgument: the agent card declares stream "log" as a stream of bytes, not of events
unknown format: InvalidArgument: the direction or the format of the stream is one that this daemon does not know
metadata: InvalidArgument: the metadata of a stream must be a JSON object
large metadata: InvalidArgument: set up stream TASK-1 of task TASK: encode the setup request of stream TASK-1: it has N bytes, more than the N of a message: use less metadata
log: OK: 
ticks: OK: 
upper: OK: 
write: OK: 
empty item: InvalidArgument: item 1 of the write is empty, or of a kind that this daemon does not know
event to bytes: InvalidArgument: stream TASK-2 takes bytes or text, not events
text to events: InvalidArgument: stream TASK-3 takes events, not bytes or text
string to events: InvalidArgument: stream TASK-3 takes no such item: SAID
no JSON: InvalidArgument: stream TASK-3 takes no such item: SAID
all or none: InvalidArgument: stream TASK-3 takes no such item: SAID
event: OK: 
too large: InvalidArgument: the write has 5242880 bytes, more than the 4194304 that one write may have: write in pieces
inbound: FailedPrecondition: stream TASK-4 is inbound: only the consumer writes it
unknown stream: NotFound: task TASK has no stream "nope"
unknown task: NotFound: task "elsewhere" does not run, or has ended
read outbound: FailedPrecondition: stream TASK-2 is outbound: only the consumer reads it
activate: FailedPrecondition: stream TASK-2 is not external, so the consumer has been notified already
end task: FailedPrecondition: only a pipe task whose handler has returned its result can be ended so
end: OK: 
end: OK: 
after the end: FailedPrecondition: stream TASK-2 has ended
two tokens: PermissionDenied: the metadata blocksd-host-token is not the token of this handler`
	gotLines, wantLines := strings.Split(said, "\n"), strings.Split(want, "\n")
	if len(gotLines) != len(wantLines) {
		t.Errorf("it said\n%s\nwant\n%s", said, want)
	}
	for i := range min(len(gotLines), len(wantLines)) {
		if !matches(gotLines[i], wantLines[i]) {
			t.Errorf("it said %q, want %q", gotLines[i], wantLines[i])
		}
	}

	many := c.submit("badhandler", "stream-many 2000", 5)
	system.Eventually(t, system.CallDeadline, "the handler answers", func() bool {
		events, err := c.History(c.ctx, many)
		return err == nil && slices.ContainsFunc(events, func(e system.Event) bool { return e.Type == "artifact" }) || len(events) == 100
	})
	c.cancel(many)
	c.end(many)
	n.Stop(t)
}

// TestHandlerDoesNotTakeItsStream: what a handler has asked for and does not take holds up neither the end of its task nor
// other streams, and neither do streams that it leaves behind.
func TestHandlerDoesNotTakeItsStream(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	c := consumer(t, n.Env)
	deaf := c.submit("badhandler", "stream-deaf", 5)
	s := c.stream(deaf, "upper")
	text := strings.Repeat("x", 30_000)
	for seq := range 150 {
		err := c.WriteStream(c.ctx, s, map[string]any{"type": "stream_data", "protocolVersion": "2026-05-01", "streamId": s.ID, "seq": seq, "ts": 1, "encoding": "utf8", "chunks": []string{text}})
		if err != nil {
			t.Fatal(err)
		}
	}
	leaking := c.submit("badhandler", "stream-leak", 5)
	c.stream(leaking, "upper")
	other := c.submit("badhandler", "stream-misuse", 5)
	if all, _ := c.read(c.stream(other, "ticks"), func(all string) bool { return all != "" }); all != `{"good":2}` {
		t.Errorf("another stream of the same process brings %q", all)
	}
	for _, task := range []system.Submitted{deaf, leaking, other} {
		c.cancel(task)
		if end := c.end(task); end != "canceled" {
			t.Errorf("it ends %s", end)
		}
	}
	system.Eventually(t, system.CallDeadline, "nothing is left of the tasks", func() bool {
		r := n.Run(t, n.Env, "tasks", "--json")
		return r.Code == 0 && strings.TrimSpace(r.Stdout) == "[]"
	})
	if end := c.end(c.submit("badhandler", "none", 0)); end != "completed" {
		t.Errorf("the next task ends %s", end)
	}
	n.Stop(t)
}

// matches compares a line with one in which N stands for a number and SAID for some words.
func matches(got, want string) bool {
	if before, _, ok := strings.Cut(want, "SAID"); ok {
		return strings.HasPrefix(got, before) && len(got) > len(before)
	}
	digits := func(s string) string {
		if !strings.Contains(want, " N ") {
			return s
		}
		var words []string
		for w := range strings.SplitSeq(s, " ") {
			if w != "" && strings.Trim(w, "0123456789") == "" {
				w = "N"
			}
			words = append(words, w)
		}
		return strings.Join(words, " ")
	}
	return digits(got) == want
}

// TestHandlerKilledInStream: the consumer of a stream whose writer has crashed gets what was written, an end, and the reason.
func TestHandlerKilledInStream(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	c := consumer(t, n.Env)
	for _, detached := range []string{"", "detached"} {
		task := c.submit("badhandler", "stream-crash "+detached, 5)
		if all, end := c.read(c.stream(task, "log"), nil); all != "before the crash" || !strings.HasPrefix(end, "ended") {
			t.Errorf("%s: read %q, %q", detached, all, end)
		}
		if end := c.end(task); end != "failed The handler crashed while it worked on the task." {
			t.Errorf("%s: it ends %s", detached, end)
		}
	}
	n.Stop(t)
}

// TestDaemonKilledInStream: a daemon that is started again ends, for their readers, the streams that its predecessor left
// open, and then their tasks.
func TestDaemonKilledInStream(t *testing.T) {
	dir := bin.TestPlugins()
	_, env := bin.Sandbox(t, dir)
	state := t.TempDir()
	socket := filepath.Join(state, "s")
	n := &system.Network{Binaries: bin, StateDir: state, Env: env.With("BLOCKSD_SOCKET", socket)}
	start := func() {
		n.Process = bin.Start(t, env, "run", "--plugins", dir, "--state-dir", state, "--socket", socket)
		n.WaitReady(t)
	}
	start()
	c := consumer(t, env)
	task := c.submit("scripted", `[{"write":{"name":"log","chunks":["one "],"end":false}},{"write":{"name":"ticks","chunks":[{"n":1}],"end":false}},{"until_cancel":100}]`, 5)
	log, ticks := c.stream(task, "log"), c.stream(task, "ticks")
	var readers sync.WaitGroup
	seen := make(chan string, 4)
	for _, s := range []system.Stream{log, ticks} {
		readers.Go(func() {
			all, end := c.read(s, nil)
			seen <- fmt.Sprint(s.Name, " ", all, " ", end)
		})
	}
	for _, s := range []system.Stream{log, ticks} { // both have been written
		c.read(s, func(all string) bool { return all != "" })
	}
	n.Kill()
	start()
	readers.Wait()
	close(seen)
	for got := range seen {
		if !strings.Contains(got, "ended The agent was restarted") {
			t.Errorf("a reader saw %s", got)
		}
	}
	if end := c.end(task); end != "failed The agent was restarted while it worked on the task, so the task was not finished." {
		t.Errorf("it ends %s", end)
	}
	n.Stop(t)
}
