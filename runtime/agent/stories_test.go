package agent

// The scripts in testdata/stories drive several instances of one agent, each with a journal and a road of its own, and a
// sandbox, by a virtual clock. Lines without indentation are what happens, indented lines are what must follow: what each
// instance puts on its bus, and what a consumer reads. "go test ./runtime/agent -run Stories -update" writes what follows
// now.
//
// Each line takes a moment, so that what follows at once belongs to it. Of one moment the changes of states come first and
// then what happened to each task, because their order among each other is left to chance.
//
//	start NAME          starts an instance; "start NAME recovering" one whose handler is not ready yet
//	handler NAME STATE  available, recovering or unavailable
//	stop NAME           has it drain and end
//	crash NAME          cuts it off from everything; the next start goes on from what it has on disk
//	road NAME STATE     up, unreachable or hanging
//	submit TASK         a consumer submits a task
//	cancel TASK         the consumer cancels it
//	finish TASK         its handler ends with success, on every instance that works on it
//	wait DURATION       time passes
//	read TASK           what a consumer reads of the task

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/internal/testutil/scripttest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

func TestStories(t *testing.T) {
	scripttest.Run(t, "testdata/stories/*.txt", func(t *testing.T, script string) (played string) {
		synctest.Test(t, func(t *testing.T) { played = newTheatre(t).play(script) })
		return played
	})
}

// moment is how long a line takes: longer than the pauses between the presence states of an agent.
const moment = 100 * time.Millisecond

// theatre is where a story is played.
type theatre struct {
	t         *testing.T
	sb        *sandboxtest.Network
	cdm       backend.CDM
	transport *http.Transport
	consumer  *backend.Consumer
	card      card.Card

	actors map[string]*actor
	tasks  map[string]backend.SendResult // by the name in the story
	names  map[string]string             // of tasks, by id
}

// actor is one instance of the agent. A crash leaves it as a ghost that reaches nobody any more.
type actor struct {
	dir    string
	road   *road
	stage  *moody
	calls  []*call
	events *event.Reader
	stop   context.CancelFunc
	ended  chan struct{}
	ghosts []*actor
}

func newTheatre(t *testing.T) *theatre {
	p := newPipes()
	transport := &http.Transport{DialContext: p.dial}
	th := &theatre{
		t: t, transport: transport, card: cardOf(t, "worker", 2, ""),
		actors: map[string]*actor{}, tasks: map[string]backend.SendResult{}, names: map[string]string{},
	}
	th.sb = sandboxtest.Start(t, sandbox.Config{Listener: p}, th.card)
	cdm, api := th.sb.Backend(&http.Client{Transport: transport})
	th.cdm, th.consumer = cdm, api.NewConsumer(th.sb.APIKey())
	return th
}

// play returns the script with the indented lines replaced by what follows.
func (th *theatre) play(script string) string {
	var out strings.Builder
	for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line + "\n")
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if len(fields) < 2 {
			th.t.Fatalf("line %d: want a verb and whom it is about", n+1)
		}
		said, err := th.do(fields[0], fields[1], fields[2:])
		if err != nil {
			th.t.Fatalf("line %d: %v", n+1, err)
		}
		time.Sleep(moment)
		synctest.Wait()
		for _, s := range append(said, th.news()...) {
			out.WriteString("  " + s + "\n")
		}
	}
	th.end()
	return out.String()
}

func (th *theatre) do(verb, whom string, args []string) (said []string, err error) {
	a := th.actors[whom]
	switch verb {
	case "start":
		initial := dispatch.Available
		if len(args) > 0 {
			initial = availabilityOf(args[0])
		}
		th.actors[whom] = th.start(a, initial)
		return nil, nil
	case "submit":
		sent, err := th.consumer.SendMessage(th.t.Context(), backend.SendRequest{
			AgentName: "worker", BillingMode: wire.Free, Parts: []wire.Part{text("request", "hi")},
		})
		th.tasks[whom], th.names[sent.TaskID] = sent, whom
		return nil, err
	case "cancel":
		return nil, th.consumer.CancelTask(th.t.Context(), th.tasks[whom].TaskID)
	case "finish":
		th.finish(func(id string) bool { return th.names[id] == whom })
		return nil, nil
	case "read":
		return []string{th.read(th.tasks[whom])}, nil
	case "wait":
		d, err := time.ParseDuration(whom)
		time.Sleep(d)
		return nil, err
	}
	if a == nil {
		return nil, fmt.Errorf("there is no instance %s to %s", whom, verb)
	}
	switch verb {
	case "handler":
		a.stage.become(availabilityOf(args[0]))
		return nil, nil
	case "stop":
		a.stop()
		return nil, nil
	case "crash":
		a.road.set(unreachable)
		a.dir = photograph(th.t, a.dir)
		return nil, nil
	case "road":
		states := map[string]failure{"up": none, "unreachable": unreachable, "hanging": hanging}
		a.road.set(states[args[0]])
		return nil, nil
	}
	return nil, fmt.Errorf("unknown verb %q", verb)
}

// start starts an instance, from what the former one has left behind.
func (th *theatre) start(former *actor, initial dispatch.Availability) *actor {
	t := th.t
	a := &actor{stage: &moody{stage: newStage(), now: initial, changed: make(chan struct{})}, ended: make(chan struct{}), road: &road{next: th.transport, broken: make(chan struct{})}}
	if former == nil {
		a.dir = t.TempDir()
	} else {
		// A copy, because the test has the journal open until its end.
		a.dir, a.ghosts = photograph(t, former.dir), append(former.ghosts, former)
	}
	api, err := backend.New(backend.Config{BaseURL: th.cdm.BaseURL, HTTP: &http.Client{Transport: a.road}})
	if err != nil {
		t.Fatal(err)
	}
	bus := event.NewBus(event.Config{})
	a.events = bus.Follow()
	agent, err := New(Config{
		Card: th.card, Handler: "test", APIKey: th.sb.APIKey(), Backend: api, CDM: th.cdm, Origin: th.cdm.PubNubOrigin,
		Dispatcher: a.stage, Journal: openJournal(t, a.dir), Events: bus, Drain: time.Minute, CancelGrace: 5 * time.Second,
		Jitter: func() float64 { return 0.5 }, transport: a.road,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	go func() {
		defer close(a.ended)
		if err := agent.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return a
}

func availabilityOf(name string) dispatch.Availability {
	return map[string]dispatch.Availability{"available": dispatch.Available, "recovering": dispatch.Recovering, "unavailable": dispatch.Unavailable}[name]
}

// finish ends the calls of the handlers of some tasks.
func (th *theatre) finish(which func(id string) bool) {
	for _, a := range th.everybody() {
		for len(a.stage.calls) > 0 {
			a.calls = append(a.calls, <-a.stage.calls)
		}
		a.calls = slices.DeleteFunc(a.calls, func(c *call) bool {
			if !which(c.task.ID) {
				return false
			}
			c.result <- nil
			return true
		})
	}
}

func (th *theatre) everybody() []*actor {
	var all []*actor
	for _, name := range slices.Sorted(maps.Keys(th.actors)) {
		all = append(append(all, th.actors[name].ghosts...), th.actors[name])
	}
	return all
}

// news is what the instances have put on their buses.
func (th *theatre) news() []string {
	var news []string
	for _, name := range slices.Sorted(maps.Keys(th.actors)) {
		r := th.actors[name].events
		var items []event.Item
		for item, ok := r.TryNext(); ok; item, ok = r.TryNext() {
			item.TaskID = th.names[item.TaskID]
			items = append(items, item)
		}
		slices.SortStableFunc(items, func(a, b event.Item) int { return strings.Compare(a.TaskID, b.TaskID) })
		for _, item := range items {
			words := []string{name + ":", item.Type.String(), item.TaskID, item.State, item.Reason}
			news = append(news, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
		}
	}
	return news
}

// read returns what is stored about a task, as its consumers see it.
func (th *theatre) read(sent backend.SendResult) string {
	l, err := link.New(link.Config{Origin: th.cdm.PubNubOrigin, Keys: sent.Keys, UserID: "reader", Transport: th.transport})
	if err != nil {
		th.t.Fatal(err)
	}
	defer l.Close()
	l.SetToken(sent.ReadToken)
	stored, err := l.History(th.t.Context(), sent.Channel, "", "")
	if err != nil {
		th.t.Fatal(err)
	}
	events := []string{"consumer:"}
	for _, m := range stored {
		e, err := wire.DecodeEvent(m.Body)
		switch {
		case err != nil:
			th.t.Fatal(err)
		case e.Type == wire.EventTerminal, e.Type == wire.EventProgress:
			events = append(events, strings.TrimSpace(string(e.State)+" "+e.Error))
		}
	}
	return strings.Join(events, " | ")
}

// end ends everything.
func (th *theatre) end() {
	th.finish(func(string) bool { return true })
	var all sync.WaitGroup
	for _, a := range th.everybody() {
		a.stop()
		all.Go(func() {
			<-a.ended
			a.events.Close()
		})
	}
	all.Wait()
	th.sb.Stop()
	th.transport.CloseIdleConnections()
}
