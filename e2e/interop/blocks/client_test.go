package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/e2e/internal/system"
)

// user is somebody who calls agents: the SDK's consumer, or ours.
type user interface {
	// do does one operation of consumer.py and decodes what it says into said.
	do(op string, args args, said any) error
}

// ours does with package client what consumer.py does with the SDK's TaskClient, and says it in the same words.
type ours struct {
	t     testing.TB
	env   system.Env
	web   *http.Client
	asked testEndpoint

	mu      sync.Mutex // guards what follows
	clients map[string]*client.Client
}

// newOurs returns one. Its clients are closed when the test ends.
func newOurs(t testing.TB, env system.Env) *ours {
	o := &ours{t: t, env: env, clients: map[string]*client.Client{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	o.web = &http.Client{Transport: counting{transport}}
	o.asked.serve(t, o)
	t.Cleanup(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, c := range o.clients {
			c.Close()
		}
		transport.CloseIdleConnections()
	})
	return o
}

// counting counts the requests of each operation that wants to know, by its context.
type counting struct{ http.RoundTripper }

type countKey struct{}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if n, ok := r.Context().Value(countKey{}).(*atomic.Int64); ok {
		n.Add(1)
	}
	return c.RoundTripper.RoundTrip(r)
}

// client returns the client of somebody, by the name that consumer.py gives it.
func (o *ours) client(ctx context.Context, who string) (*client.Client, error) {
	if who == "" {
		who = "free"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.clients[who]; c != nil {
		return c, nil
	}
	c, err := o.newClient(ctx, who)
	if err == nil {
		o.clients[who] = c
	}
	return c, err
}

func (o *ours) newClient(ctx context.Context, who string) (*client.Client, error) {
	make, known := credentials[who]
	if !known {
		return nil, fmt.Errorf("nobody is called %q", who)
	}
	options := make(o)
	options.Getenv, options.HTTP = o.env.Get, o.web
	return client.New(ctx, options)
}

// order are the arguments of an operation.
type order struct {
	Who, Who2, Agent string
	Steps, First     json.RawMessage
	Parts            []struct {
		ID, Name, Type string
		Text           *string
		Size           int
		OnDisk         bool `json:"on disk"`
	}
	TaskKind string `json:"task_kind"`
	Duration int
	Stream   *bool
	OwnerID  string `json:"owner_id"`
	Key      string

	Then  json.RawMessage
	When  string
	Brief bool
	Does  string
	Task  string
	Times int
	Count int

	Patience float64
	Release  struct {
		File  string
		After int
	}
	Name     string
	Names    []string
	Chunks   []json.RawMessage
	Messages []json.RawMessage
	Says     []string
}

// work is one operation under way.
type work struct {
	*ours
	ctx context.Context
	order
}

// operations are what ours can do, by the names of consumer.py.
var operations map[string]func(*work) ([]string, error)

func (o *ours) do(op string, a args, said any) error {
	ctx, cancel := context.WithTimeout(o.t.Context(), operationDeadline)
	defer cancel()
	w := &work{ours: o, ctx: ctx}
	b, err := json.Marshal(a)
	if err == nil {
		err = json.Unmarshal(b, &w.order)
	}
	if err != nil {
		return err
	}
	if w.Agent == "" && a["agent"] == nil {
		w.Agent = "scripted"
	}
	if w.When == "" {
		w.When = "status ready"
	}
	if events, ok := said.(*[]map[string]any); ok {
		if op == "transcript" {
			*events, err = w.transcript()
		} else {
			*events, err = w.eventsOf()
		}
		return err
	}
	f, known := operations[op]
	if !known {
		return fmt.Errorf("there is no operation %q", op)
	}
	lines, err := f(w)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	*said.(*[]string) = lines
	return nil
}

// errCannotBeSaid is what comes of a message that package client has no words for.
var errCannotBeSaid = errors.New("package client has no words for it")

// message is what consumer.py sends for the same arguments.
func (w *work) message() (client.Message, error) {
	m := client.Message{Agent: w.Agent, OwnerID: w.OwnerID, IdempotencyKey: w.Key, Duration: time.Duration(w.Duration) * time.Minute}
	if w.TaskKind == "pipe" && w.Duration == 0 {
		return m, errCannotBeSaid
	}
	if w.Stream != nil {
		m.Stream = client.StreamOff
		if *w.Stream {
			m.Stream = client.StreamOn
		}
	}
	if w.Steps != nil {
		m.Parts = append(m.Parts, client.Text("request", asPythonText(w.Steps)))
	}
	for _, p := range w.Parts {
		switch {
		case p.Text != nil:
			m.Parts = append(m.Parts, client.Text(p.ID, *p.Text))
			continue
		case p.OnDisk:
			path := filepath.Join(w.t.TempDir(), p.Name)
			if err := os.WriteFile(path, pattern(p.Size), 0o600); err != nil {
				return m, err
			}
			m.Parts = append(m.Parts, client.File(p.ID, path))
		default:
			m.Parts = append(m.Parts, client.Bytes(p.ID, p.Name, pattern(p.Size)))
		}
		m.Parts[len(m.Parts)-1].MIMEType = p.Type
	}
	return m, nil
}

func (w *work) send() (*client.Client, *client.Session, error) {
	m, err := w.message()
	if err != nil {
		return nil, nil, err
	}
	c, err := w.client(w.ctx, w.Who)
	if err != nil {
		return nil, nil, err
	}
	s, err := c.Send(w.ctx, m)
	return c, s, err
}

// line is one event of a task in short.
func line(event map[string]any) string {
	text := func(v any) string {
		if v == nil {
			return "None"
		}
		return fmt.Sprint(v)
	}
	switch kind := text(event["type"]); {
	case kind == "progress" && event["streamEvent"] != nil:
		var all []string
		streams, _ := event["streams"].(map[string]any)
		for _, s := range streams {
			s := s.(map[string]any)
			name, metadata := event["declaredStream"], s["metadata"]
			if name == nil {
				name = "-"
			}
			if metadata == nil {
				metadata = map[string]any{}
			}
			all = append(all, fmt.Sprint(event["streamEvent"], " ", name, " ", s["direction"], " ", s["format"], " ", s["affinity"], " ", asPython(metadata)))
		}
		slices.Sort(all)
		return strings.Join(all, "; ")
	case kind == "progress" && event["message"] != nil:
		return "status " + text(event["message"])
	case kind == "progress":
		return text(event["state"]) + " " + text(event["progress"])
	case kind == "artifact":
		ref := event["artifactRef"].(map[string]any)
		words := []string{"artifact", text(ref["kind"]), text(ref["mimeType"]), text(ref["size"])}
		if size, ok := ref["size"].(float64); ok {
			words[3] = fmt.Sprintf("%.0f", size)
		}
		if name, _ := ref["fileName"].(string); name != "" {
			words = append(words, name)
		}
		if id, _ := event["outputId"].(string); id != "" {
			words = append(words, "->", id)
		}
		return strings.Join(words, " ")
	case kind == "terminal":
		words := []string{"terminal", text(event["state"])}
		for _, key := range []string{"error", "reason", "completionReason"} {
			if v, there := event[key]; there {
				words = append(words, key+"="+text(v))
			}
		}
		return strings.Join(words, " ")
	case kind == "system":
		return "system " + text(event["status"])
	default:
		return kind
	}
}

// raw is an event as it came.
func raw(e client.Event) (event map[string]any, err error) {
	return event, json.Unmarshal(e.Raw, &event)
}

// follow returns the lines of a session's events until one begins with a text, all if it is empty.
func (w *work) follow(s *client.Session, until string) (lines []string, err error) {
	for e, err := range s.Events(w.ctx) {
		if err != nil {
			return lines, err
		}
		event, err := raw(e)
		if err != nil {
			return lines, err
		}
		lines = append(lines, line(event))
		if until != "" && strings.HasPrefix(lines[len(lines)-1], until) {
			return lines, nil
		}
	}
	if until != "" {
		return lines, fmt.Errorf("the task ended before %q: %q", until, lines)
	}
	return lines, nil
}

// history are the events of a task as somebody sees them who comes later.
func (w *work) history(c *client.Client, taskID string) ([]string, error) {
	s, err := c.Connect(w.ctx, taskID)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return w.follow(s, "")
}

func shown(b []byte) string { return shownOf(string(b)) }

// artifacts are those of a task with their contents.
func (w *work) artifacts(s *client.Session) (lines []string, err error) {
	for _, a := range s.Artifacts() {
		d, err := s.Download(w.ctx, a)
		if err != nil {
			return nil, err
		}
		name := d.FileName
		if name == "" {
			name = "-"
		}
		lines = append(lines, fmt.Sprintf("got %s %s: %s", d.MIMEType, name, shown(d.Data)))
	}
	return lines, nil
}

// outcome waits for the end and tells everything: the events, the state, the artifacts. Who comes later sees the same.
func (w *work) outcome(c *client.Client, s *client.Session) ([]string, error) {
	end, err := s.Wait(w.ctx)
	if err != nil {
		return nil, err
	}
	live, err := w.follow(s, "")
	if err != nil {
		return nil, err
	}
	later, err := w.history(c, s.TaskID())
	if err == nil && !slices.Equal(live, later) {
		err = fmt.Errorf("the session has seen %q, and who comes later sees %q", live, later)
	}
	if err != nil {
		return nil, err
	}
	got, err := w.artifacts(s)
	return append(append(live, "state "+string(end.State)), got...), err
}

// act asks for something about a task, by the names of consumer.py.
func (w *work) act(c *client.Client, s *client.Session, what string) error {
	switch what {
	case "cancel":
		return s.Cancel(w.ctx)
	case "terminate":
		return s.Terminate(w.ctx)
	case "cancel_task":
		return c.Cancel(w.ctx, s.TaskID())
	case "pause_task":
		return c.Pause(w.ctx, s.TaskID())
	case "resume_task":
		return c.Resume(w.ctx, s.TaskID())
	}
	return fmt.Errorf("nothing is called %q", what)
}
