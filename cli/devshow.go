package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/daemon"
	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/sandbox"
)

// devShow prints what happens in dev: a line for each task and each change of an agent or handler, the output of handlers
// behind their names, and a short block for each crash.
type devShow struct {
	out   io.Writer
	style style
	log   bool // the log shows what handlers do, too

	mu      sync.Mutex // guards what follows, and keeps blocks together
	settled time.Time  // from when on changes are shown; zero while the beginning is still going on
	ending  bool       // the daemon stops, so that agents leave
	states  map[string]string
	crashes map[string]string // the last one of each handler
	wrote   map[string]string // the last that each handler has written
	failed  failures
}

// failures are why tasks have failed, by task, while either the line of the task or that of its handler is still to come.
type failures map[string]string

// maxFailures bounds them: where one of the two is left out, what the other said stays.
const maxFailures = 256

// said notes why a task has failed, and reports whether that has been said before.
func (f failures) said(task, why string) bool {
	if before, ok := f[task]; ok && before == why {
		delete(f, task)
		return true
	}
	if len(f) >= maxFailures {
		clear(f)
	}
	f[task] = why
	return false
}

func newDevShow(out io.Writer, s style, log bool) *devShow {
	return &devShow{out: out, style: s, log: log, states: map[string]string{}, crashes: map[string]string{}, wrote: map[string]string{}, failed: failures{}}
}

const (
	// labelWidth is the room for the word in front of each line.
	labelWidth = 9
	// outputLinesShown of one record are shown; blocksd logs has all.
	outputLinesShown = 8
	// shortLine is how long a text is that may be said twice.
	shortLine = 40
	// examplesAtOnce bounds the example tasks under way.
	examplesAtOnce = 8
)

// say prints a line behind a word that says what it is about.
func (s *devShow) say(label string, t tone, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sayLocked(label, t, format, args...)
}

func (s *devShow) sayLocked(label string, t tone, format string, args ...any) {
	fmt.Fprintf(s.out, "%-*s %s\n", labelWidth, label, s.style.of(t, printable(fmt.Sprintf(format, args...))))
}

// start shows events and output of the daemon until stop is called, which waits for what is still to be shown.
func (s *devShow) start(ctx context.Context, d *daemon.Daemon) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		_ = d.Events(ctx, &controlv1.EventsRequest{Follow: true}, func(encoded control.EncodedItems) error { // ends with ctx
			items, err := encoded.Decode()
			for _, item := range items {
				s.event(item)
			}
			return err
		})
	})
	if !s.log {
		all.Go(func() { _ = d.Logs(ctx, &controlv1.LogsRequest{Follow: true}, s.output) })
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// event shows one event, if it is one that people want to see.
func (s *devShow) event(item *controlv1.EventItem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := item.GetEvent()
	if e == nil {
		s.sayLocked("!", odd, "%s came too fast to be shown", counted(int64(item.GetMissed()), "event"))
		return
	}
	because := ""
	if e.GetReason() != "" {
		because = ": " + e.GetReason()
	}
	late := !s.settled.IsZero() && e.GetTime().AsTime().After(s.settled)
	switch e.GetType() {
	case "task_ended":
		if e.GetState() == string(wire.Completed) || e.GetState() == string(wire.Failed) && s.failed.said(e.GetTaskId(), e.GetReason()) {
			because = ""
		}
		s.sayLocked("task", stateTone(e.GetState()), "%s %s in %s%s  %s", e.GetAgent(), e.GetState(), shortDuration(e.GetDuration().AsDuration()), because, e.GetTaskId())
	case "task_refused":
		s.sayLocked("task", bad, "%s refused it%s  %s", e.GetAgent(), because, e.GetTaskId())
	case "agent_state":
		if before := s.states[e.GetAgent()]; late && !s.ending && before != e.GetState() {
			s.states[e.GetAgent()] = e.GetState()
			s.sayLocked("agent", stateTone(e.GetState()), "%s is %s%s", e.GetAgent(), e.GetState(), because)
		}
	case "process_started":
		if late {
			s.sayLocked("handler", good, "%s has a new process, pid %d, after %s", e.GetHandler(), e.GetPid(), shortDuration(e.GetDuration().AsDuration()))
		}
	case "rollout":
		if late {
			s.sayLocked("handler", ordinary, "%s%s", e.GetHandler(), because)
		}
	case "notice":
		s.noticeLocked(e, late)
	case "drain":
		s.ending = e.GetState() == "stopping"
	}
}

// noticeLocked leaves out what the lines about agents and handlers say.
func (s *devShow) noticeLocked(e *controlv1.Event, late bool) {
	switch {
	case slices.Contains([]string{"decided", "ready", "not_ready", "cleared"}, e.GetState()), e.GetState() == "raised" && !late:
	case e.GetState() == "quarantined" && !late: // among the reasons of the beginning
	case e.GetHandler() != "":
		s.sayLocked("handler", odd, "%s: %s", e.GetHandler(), e.GetReason())
	default:
		s.sayLocked("!", odd, "%s", e.GetReason())
	}
}

// output shows what a handler has written, and a crash.
func (s *devShow) output(r *controlv1.LogsResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := r.GetCrash(); c != nil {
		s.crashLocked(c)
		return nil
	}
	if s.isSaidLocked(r.GetRecord()) {
		return nil
	}
	var b bytes.Buffer
	p := logPrinter{w: &b, bare: true}
	if err := p.print(r); err != nil {
		return err
	}
	t := ordinary
	switch level := r.GetRecord().GetLevel(); {
	case strings.HasPrefix(level, "ERROR"):
		t = bad
	case strings.HasPrefix(level, "WARN"):
		t = odd
	}
	lines := slices.Collect(strings.Lines(b.String()))
	if over := len(lines) - outputLinesShown; over > 1 {
		lines = append(lines[:outputLinesShown], fmt.Sprintf("  … %s more: blocksd logs %s", counted(int64(over), "line"), printable(shell.Word(r.GetRecord().GetHandler()))))
	}
	for _, line := range lines {
		fmt.Fprintf(s.out, "%-*s %s\n", labelWidth, printable(r.GetRecord().GetHandler()), s.style.of(dim, "|")+" "+s.style.of(t, strings.TrimSuffix(line, "\n")))
	}
	return nil
}

// isSaidLocked reports whether a record only repeats what the line of its task says.
func (s *devShow) isSaidLocked(r *controlv1.LogRecord) bool {
	s.wrote[r.GetHandler()] = r.GetMessage()
	why, ok := strings.CutPrefix(r.GetMessage(), "a task failed: ")
	if !ok {
		return false
	}
	for _, a := range r.GetAttributes() {
		if a.GetKey() == "task" {
			return s.failed.said(a.GetValue(), why)
		}
	}
	return false
}

// crashLocked prints why a process is gone, and the line of its panic that says most: its output is above.
func (s *devShow) crashLocked(c *controlv1.Crash) {
	said := c.GetText()
	if p := c.GetPanic(); len(p) > 0 {
		line := p[0]
		if strings.HasPrefix(line, "Traceback") { // what happened comes last
			line = p[len(p)-1]
		}
		said += "\n" + line
	}
	again := s.crashes[c.GetHandler()] == said
	s.crashes[c.GetHandler()] = said
	text, line, _ := strings.Cut(said, "\n")
	if last := s.wrote[c.GetHandler()]; len(last) > shortLine {
		text = strings.Replace(text, "because "+last, "because of what it has written", 1)
	}
	s.sayLocked("crash", bad, "%s", text)
	if again {
		return // the rest would be the same
	}
	if line != "" {
		s.sayLocked("", ordinary, "  %s", line)
	}
	s.sayLocked("", dim, "  more: blocksd logs --crash %s", shell.Word(c.GetHandler()))
}

// agents waits for the agents and says how they are. It is false when ctx has ended.
func (s *devShow) agents(ctx context.Context, d *daemon.Daemon, network *sandbox.Sandbox, outside []card.Card) bool {
	wait, cancel := context.WithTimeout(ctx, devReadyTimeout)
	_ = d.WaitSettled(wait) // the states below show which agents are not online
	cancel()
	if ctx.Err() != nil {
		return false
	}
	status := d.Status()
	for _, a := range status.GetAgents() {
		if a.GetState() == agent.StateOnline {
			// The agent is online before the network knows it, and the network would queue a task that comes in between.
			wait, cancel := context.WithTimeout(ctx, devReadyTimeout)
			_ = network.AwaitInstance(wait, a.GetName()) // without an instance a task says what is missing
			cancel()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range outside {
		s.sayLocked("agent", ordinary, "%s is registered, for an external provider", c.AgentName)
	}
	for _, a := range status.GetAgents() {
		s.states[a.GetName()] = a.GetState()
		s.sayLocked("agent", stateTone(a.GetState()), "%s is %s", a.GetName(), a.GetState())
	}
	for _, r := range status.GetReasons() {
		for handler, said := range s.crashes {
			text, _, _ := strings.Cut(said, "\n")
			r = strings.Replace(r, text, "handler "+handler+" is not available, see above", 1)
		}
		fmt.Fprintf(s.out, "%s\n", s.style.of(odd, "! "+printable(r)))
	}
	s.settled = time.Now()
	return ctx.Err() == nil
}

// tryExamples sends one task to each agent that has an example input: several at once, each printed with its events once it
// has ended; then those that stream, one after another, as they go on.
func (s *devShow) tryExamples(ctx context.Context, d *daemon.Daemon, network *sandbox.Sandbox) {
	c, err := client.New(ctx, client.Options{
		CDMURL: network.CDMURL(), PubNubOrigin: network.Addr(), APIKey: network.APIKey(), Getenv: func(string) string { return "" }, // of another network
	})
	if err != nil {
		s.say("!", odd, "examples cannot be sent: %s", err)
		return
	}
	defer c.Close()
	var streaming []daemon.Example
	var all sync.WaitGroup
	slots := make(chan struct{}, examplesAtOnce)
	for _, example := range d.Examples() {
		if example.Streams {
			streaming = append(streaming, example)
			continue
		}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var block bytes.Buffer
			tryExample(ctx, c, example, &block)
			_, _ = s.Write(block.Bytes()) // as with all other lines, there is nowhere to say that it fails
		})
	}
	all.Wait()
	for _, example := range streaming {
		tryExample(ctx, c, example, s)
	}
}

// Write prints whole lines between those of say.
func (s *devShow) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func tryExample(ctx context.Context, c *client.Client, example daemon.Example, out io.Writer) {
	if ctx.Err() != nil {
		return
	}
	fmt.Fprintf(out, "example for %s\n", example.Agent)
	if err := sendExample(ctx, c, example, out); err != nil && ctx.Err() == nil {
		fmt.Fprintf(out, "  ! %s\n", printable(err.Error()))
	}
}

func sendExample(ctx context.Context, c *client.Client, example daemon.Example, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, exampleTimeout, fmt.Errorf("the example did not end within %s", exampleTimeout))
	defer cancel()
	req := client.Message{Agent: example.Agent}
	if example.Streams {
		req.Stream = client.StreamOn
	}
	for _, p := range example.Parts {
		if p.Text == nil {
			return fmt.Errorf("the example of input %s is not a text", p.PartID)
		}
		part := client.Text(p.PartID, *p.Text)
		part.MIMEType = p.ContentType
		req.Parts = append(req.Parts, part)
		fmt.Fprintf(out, "  sent: %s\n", printable(wire.CutText(*p.Text, 200)))
	}
	s, err := c.Send(ctx, req)
	if err != nil {
		return err
	}
	defer s.Close()
	printer := callPrinter{results: out, notes: out, errors: out, indent: "  ", streamLines: true}
	printer.submitted(s, example.Agent)
	if _, err := (watchOptions{stream: example.Streams}).watch(ctx, s, &printer, func() {}); err != nil {
		return because(ctx, err)
	}
	return nil
}

// summary is the last line.
func (s *devShow) summary(n countsForm, took time.Duration) {
	s.say("done", bold, "%s in %s: %d completed, %d failed, %d canceled", counted(n.Accepted, "task"), age(took), n.Completed, n.Failed, n.Canceled)
}
