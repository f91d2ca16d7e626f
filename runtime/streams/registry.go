package streams

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// Action is something that the caller must do, in the order given.
type Action interface{ action() }

// The actions.
type (
	// SetUp asks the network. Answered must follow; before it a first set-up has made the stream ready to be used.
	SetUp struct {
		Number       int // of this set-up
		Stream, Task string
		Spec         Spec
		Phase        wire.SetupPhase
	}
	// Grant answers everybody who acquires the stream for the task: they have it.
	Grant struct{ Stream, Task string }
	// Refuse answers them that they do not get it.
	Refuse struct {
		Stream, Task string
		Err          error
	}
	// Detach takes the stream away from a task that has it.
	Detach struct{ Stream, Task string }
	// FailTask ends a task because a stream of it has failed.
	FailTask struct{ Task string }
	// End ends the stream, which no task has any more. Ended must follow.
	End struct{ Stream string }
)

func (SetUp) action()    {}
func (Grant) action()    {}
func (Refuse) action()   {}
func (Detach) action()   {}
func (FailTask) action() {}
func (End) action()      {}

// Registry is which streams there are and which tasks have them. It is not safe for concurrent use.
type Registry struct {
	agent   string
	limits  Limits
	entries map[string]*entry
	tasks   map[string]*holder
	setUps  map[int]SetUp // that are under way, by number
	numbers int
	active  int
	out     []Action // of the call in progress
}

// holder is a task that has, or had, streams.
type holder struct {
	numbered int             // dedicated streams, those that failed included
	streams  []string        // that it has or acquires, oldest first
	shared   map[string]bool // shared streams that it has or had
}

// entry is one stream.
type entry struct {
	spec  Spec
	state state
	// members are the tasks that have it or acquire it, oldest first.
	members []*member
}

type state int

const (
	settingUp state = iota // the first set-up is under way
	open                   // it can be used
	ending                 // nobody has it any more, and its end is under way
)

type member struct {
	task   string
	state  membership
	number int // of its set-up
}

type membership int

const (
	waits   membership = iota // for the first set-up, or for the end of the one before
	joins                     // its own set-up is under way
	granted                   // it has the stream
)

// Limits bound what handlers can make us keep.
type Limits struct {
	// PerTask is how many streams a task may have at once, InAll how many there may be.
	PerTask, InAll int
}

// NewRegistry returns the empty registry of an agent.
func NewRegistry(agent string, l Limits) *Registry {
	return &Registry{agent: agent, limits: l, entries: map[string]*entry{}, tasks: map[string]*holder{}, setUps: map[int]SetUp{}}
}

// Active returns how many streams are open that the agent itself writes or reads.
func (r *Registry) Active() int { return r.active }

// Of returns the streams that a task has or acquires, oldest first.
func (r *Registry) Of(task string) []string {
	if h := r.tasks[task]; h != nil {
		return slices.Clone(h.streams)
	}
	return nil
}

// Had reports whether the task has, or had, a stream of this name.
func (r *Registry) Had(task, id string) bool {
	h := r.tasks[task]
	if h == nil {
		return false
	}
	number, ok := strings.CutPrefix(id, task+"-")
	if n, err := strconv.Atoi(number); ok && err == nil && number == strconv.Itoa(n) {
		return 1 <= n && n <= h.numbered
	}
	return h.shared[id]
}

// Acquire asks for a stream for a task. Grant or Refuse answers for the id, at once or later. Created is false when the
// task has the stream already, or acquires it.
func (r *Registry) Acquire(task string, s Spec) (id string, created bool, actions []Action, err error) {
	r.out = nil
	h := r.tasks[task]
	if h == nil {
		h = &holder{}
	}
	if id = s.Declared; s.Affinity != wire.Shared {
		id = fmt.Sprintf("%s-%d", task, h.numbered+1)
	}
	if err := wire.CheckStreamChannel(r.agent, id); err != nil {
		return "", false, nil, refuse(dispatch.StreamUndeclared, "the stream cannot be made: %v", err)
	}
	e := r.entries[id]
	if e != nil && e.spec != s {
		return "", false, nil, refuse(dispatch.StreamUndeclared, "stream %s is in use with another direction or format, or written by another process", id)
	}
	if e != nil {
		if m := e.member(task); m != nil {
			if m.state == granted {
				r.do(Grant{id, task})
			}
			return id, false, r.out, nil
		}
	}
	if n := len(h.streams); n >= r.limits.PerTask {
		return "", false, nil, refuse(dispatch.StreamLimit, "task %s has %d streams, the most that a task may have at once", task, n)
	}
	if n := len(r.entries); e == nil && n >= r.limits.InAll {
		return "", false, nil, refuse(dispatch.StreamLimit, "agent %s has %d streams, the most that an agent may have at once", r.agent, n)
	}
	r.tasks[task] = h
	if s.Affinity != wire.Shared {
		h.numbered++
	} else {
		if h.shared == nil {
			h.shared = map[string]bool{}
		}
		h.shared[id] = true
	}
	h.streams = append(h.streams, id)
	if e == nil {
		e = &entry{spec: s}
		r.entries[id] = e
		r.begin(id, e, task)
		return id, true, r.out, nil
	}
	m := &member{task: task}
	e.members = append(e.members, m)
	if e.state == open {
		r.setUp(id, e, m, wire.PhaseActivate)
	}
	return id, true, r.out, nil
}

// begin starts the first set-up of a stream.
func (r *Registry) begin(id string, e *entry, task string) {
	e.state = settingUp
	m := e.member(task)
	if m == nil {
		m = &member{task: task}
		e.members = append(e.members, m)
	}
	if e.spec.External {
		r.setUp(id, e, m, wire.PhaseTokenRequest)
		return
	}
	r.setUp(id, e, m, wire.PhaseEmbedded)
}

func (r *Registry) setUp(id string, e *entry, m *member, phase wire.SetupPhase) {
	r.numbers++
	m.state, m.number = joins, r.numbers
	s := SetUp{r.numbers, id, m.task, e.spec, phase}
	r.setUps[s.Number] = s
	r.do(s)
}

// Answered says what came of the SetUp with this number. Of a first one that succeeded the stream can be used.
func (r *Registry) Answered(number int, err error) []Action {
	r.out = nil
	asked := r.setUps[number]
	delete(r.setUps, number)
	id, task := asked.Stream, asked.Task
	e := r.entries[id]
	if e == nil {
		return nil
	}
	first := asked.Phase != wire.PhaseActivate
	switch {
	case first && err != nil:
		// Nobody gets it: those that waited for it too.
		members := e.members
		delete(r.entries, id)
		for _, m := range members {
			r.forget(m.task, id)
			r.do(Refuse{id, m.task, err})
		}
		return r.out
	case first:
		e.state = open
		r.count(e, 1)
	}
	m := e.member(task)
	switch {
	case m == nil || m.number != number: // it has left meanwhile
	case err != nil:
		e.remove(task)
		r.forget(task, id)
		r.do(Refuse{id, task, err})
	default:
		m.state = granted
		r.do(Grant{id, task})
	}
	if first {
		for _, m := range e.members {
			if m.state == waits {
				r.setUp(id, e, m, wire.PhaseActivate)
			}
		}
	}
	r.endUnused(id, e)
	return r.out
}

// Release takes a stream away from a task. A stream that the task does not have is not an error. Err answers for an
// acquisition that is under way.
func (r *Registry) Release(task, id string, err error) []Action {
	r.out = nil
	r.release(task, id, err)
	return r.out
}

// ReleaseTask takes all streams away from a task that is over.
func (r *Registry) ReleaseTask(task string, err error) []Action {
	r.out = nil
	for _, id := range r.Of(task) {
		r.release(task, id, err)
	}
	delete(r.tasks, task)
	return r.out
}

func (r *Registry) release(task, id string, err error) {
	e := r.entries[id]
	if e == nil {
		return
	}
	m := e.member(task)
	if m == nil {
		return
	}
	e.remove(task)
	r.forget(task, id)
	if m.state == granted {
		r.do(Detach{id, task})
	} else {
		r.do(Refuse{id, task, err})
	}
	r.endUnused(id, e)
}

// Fail ends a stream that has failed, and every task that has it. Err answers for acquisitions under way.
func (r *Registry) Fail(id string, err error) []Action {
	r.out = nil
	e := r.entries[id]
	if e == nil || e.state != open {
		return nil
	}
	members := e.members
	e.members = nil
	for _, m := range members {
		r.forget(m.task, id)
		if m.state == granted {
			r.do(Detach{id, m.task})
			r.do(FailTask{m.task})
		} else {
			r.do(Refuse{id, m.task, err})
		}
	}
	r.endUnused(id, e)
	return r.out
}

// Ended says that what End asked for is done. Whoever has acquired the stream meanwhile gets a new one.
func (r *Registry) Ended(id string) []Action {
	r.out = nil
	e := r.entries[id]
	switch {
	case e == nil || e.state != ending:
	case len(e.members) > 0:
		r.begin(id, e, e.members[0].task)
	default:
		delete(r.entries, id)
	}
	return r.out
}

// endUnused ends a stream that nobody has or acquires.
func (r *Registry) endUnused(id string, e *entry) {
	if e.state == open && len(e.members) == 0 {
		e.state = ending
		r.count(e, -1)
		r.do(End{id})
	}
}

func (r *Registry) count(e *entry, n int) {
	if !e.spec.External {
		r.active += n
	}
}

func (r *Registry) forget(task, id string) {
	if h := r.tasks[task]; h != nil {
		h.streams = slices.DeleteFunc(h.streams, func(s string) bool { return s == id })
	}
}

func (r *Registry) do(a Action) { r.out = append(r.out, a) }

func (e *entry) member(task string) *member {
	for _, m := range e.members {
		if m.task == task {
			return m
		}
	}
	return nil
}

func (e *entry) remove(task string) {
	e.members = slices.DeleteFunc(e.members, func(m *member) bool { return m.task == task })
}
