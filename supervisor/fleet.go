// Package supervisor runs the handlers of a daemon: it starts their processes, starts them again when they fail, hands out
// tasks to them and stops them in the end. A handler can hurt only itself: whatever one does, the others and the daemon go
// on.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/logpump"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Timeouts are the deadlines of everything that waits for a handler process.
type Timeouts = plug.Timeouts

// DefaultHold is how long a task waits for a process while one is expected.
const DefaultHold = 5 * time.Second

// Config of a fleet.
type Config struct {
	Log *slog.Logger
	// Events gets what happens to the handlers; nil makes the fleet a bus of its own.
	Events *event.Bus
	// RuntimeDir is a short private directory for sockets, created and swept here. When the path of a socket in it would
	// be too long, or when it is empty, a private directory below the system's temporary one is used.
	RuntimeDir string
	Handlers   []HandlerConfig
	// Environment names variables that are handed on to handlers beside the built-in list. Secrets never are.
	Environment []string
	Timeouts    Timeouts
	// Shim is the program that limits itself and turns into the handler; it must call launch.Shim first. "" for none.
	Shim string
	// Cgroup is where handlers get control groups of their own: see launch.OpenCgroups; "" is off.
	Cgroup string
	// Hold is how long a task waits for a process while one is expected; DefaultHold when zero.
	Hold time.Duration
	// MaxArtifactBytes bounds one artifact of a handler; wire.MaxArtifactBytes, the most that the network takes, when zero.
	MaxArtifactBytes int64
	Now              func() time.Time // nil is time.Now
	Jitter           func() float64   // in [0,1); nil is random
	// OnCards is called once per generation of a handler, when it has described itself: of the first before it gets
	// tasks, of a later one when it takes over.
	OnCards func(handler string, cards []card.Card)
	// OnUsed is called when a content of a handler has got ready, and takes its tasks.
	OnUsed func(handler, content string)
}

// HandlerConfig is one handler.
type HandlerConfig struct {
	Name string
	// Path of its file, absolute; Program is what is executed instead, a copy of it, "" for the file itself.
	Path, Program string
	Args          []string
	Dir           string // working directory; "" is the root directory
	// Instances is the number of processes; 1 when zero.
	Instances int
	// Content is the checksum of what is executed, "" when nobody knows; if it changes there is a new generation.
	Content string
	// SHA256 pins what is executed, in hexadecimal; "" takes whatever is there.
	SHA256  string
	Restart unit.Policy
	// Limits of each process, as far as the machine can keep them; MTLS encrypts the connection to it.
	Limits launch.Limits
	MTLS   bool

	// Concurrency is how many tasks it takes at once, ProcessConcurrency how many each of its processes; 0: no limit. A
	// task beyond the limit waits for its turn.
	Concurrency, ProcessConcurrency int
	// RecycleTasks replaces a process that has been given so many tasks, once its replacement is ready; 0: never.
	RecycleTasks int
	// Idempotent: a task that crashed a process and has published nothing is tried on another one, as if the handler had
	// said that it may be.
	Idempotent bool
}

func (c HandlerConfig) program() string {
	if c.Program != "" {
		return c.Program
	}
	return c.Path
}

// Fleet is all handlers of a daemon. Its methods may be used from several goroutines, before and after Run too.
type Fleet struct {
	config  Config
	dirs    *launch.SocketDirs
	spawner *launch.Spawner
	machine *launch.Machine
	book    *logpump.Book
	hashes  catalog.Hashes

	mu       sync.Mutex
	handlers map[string]*handler // guarded by mu, like the fields below
	order    []*handler          // as configured; those that are being removed last
	running  bool
	stopped  bool
	leaving  sync.WaitGroup // handlers that were forgotten; Add only under mu while not stopped
	tasks    map[string]*placement
	// early are cancellations of tasks that are not here, and until when each counts: they may have overtaken Do.
	// Guarded by mu, bounded by maxEarly.
	early map[string]time.Time
}

// New checks the configuration and prepares the runtime directory; Run starts the handlers.
func New(c Config) (*Fleet, error) {
	if c.Log == nil {
		return nil, errors.New("supervisor: Config.Log is missing")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Hold <= 0 {
		c.Hold = DefaultHold
	}
	if c.Events == nil {
		c.Events = event.NewBus(event.Config{})
	}
	c.Timeouts = c.Timeouts.Filled()
	f := &Fleet{config: c, spawner: launch.NewSpawner(), book: &logpump.Book{}, handlers: map[string]*handler{}, tasks: map[string]*placement{}, early: map[string]time.Time{}}
	if err := f.Apply(c.Handlers); err != nil {
		return nil, err
	}
	var err error
	if f.dirs, err = launch.OpenSocketDirs(c.RuntimeDir, ""); err != nil {
		return nil, err
	}
	f.machine = launch.Probe(c.Shim, c.Cgroup)
	return f, nil
}

// check returns an error for handlers that cannot be run together.
func check(handlers []HandlerConfig) error {
	paths := map[string]string{}
	for _, c := range handlers {
		other, twice := paths[c.Name]
		switch {
		case c.Name == "":
			return fmt.Errorf("handler with path %q has no name: give it one", c.Path)
		case !filepath.IsAbs(c.Path):
			return fmt.Errorf("path %q of handler %s is not absolute: write the whole path", c.Path, c.Name)
		case twice:
			return fmt.Errorf("two handlers are called %s, at %s and %s: rename one", c.Name, other, c.Path)
		}
		paths[c.Name] = c.Path
	}
	return nil
}

// Apply makes handlers those that run. New ones are started. One whose configuration or content has changed gets a new
// generation beside the old one, which takes over when it is ready; if it does not get ready the old one stays, and the
// status says why. Those that are not named any more finish their tasks and end. An error changes nothing.
func (f *Fleet) Apply(handlers []HandlerConfig) error {
	if err := check(handlers); err != nil {
		return err
	}
	f.mu.Lock()
	var order, begin, gone []*handler
	deploy := map[*handler]HandlerConfig{}
	for _, c := range handlers {
		h := f.handlers[c.Name]
		if h == nil {
			h = newHandler(f, c)
			f.handlers[c.Name] = h
			begin = append(begin, h)
		} else {
			deploy[h] = c
		}
		h.named = true
		order = append(order, h)
	}
	for _, h := range f.order {
		if _, stays := deploy[h]; !stays {
			h.named = false
			order = append(order, h)
			gone = append(gone, h)
		}
	}
	f.order = order
	running, stopped := f.running, f.stopped
	f.mu.Unlock()
	if stopped {
		return nil
	}
	for h, c := range deploy {
		h.deploy(c)
	}
	for _, h := range gone {
		if !h.remove() {
			f.forget(h)
		}
	}
	if running {
		for _, h := range begin {
			h.start()
		}
	}
	return nil
}

// forget drops a handler that was removed and has ended. What its processes leave may still be cleaned up: Run waits for
// that, and once it is waiting nothing is forgotten any more.
func (f *Fleet) forget(h *handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.removed && !h.named && !h.aliveLocked() && f.handlers[h.name] == h && !f.stopped {
		f.leaving.Go(h.wait)
		delete(f.handlers, h.name)
		f.order = slices.DeleteFunc(f.order, func(other *handler) bool { return other == h })
		f.book.Forget(h.name)
	}
}

// Restart replaces the processes of a handler by new ones without losing a task, or tries at once if it is not ready, in
// quarantine too. It waits for the outcome until ctx ends; the error is one sentence.
func (f *Fleet) Restart(ctx context.Context, name string) error {
	h := f.get(name)
	if h == nil {
		return fmt.Errorf("%w called %q", ErrNoHandler, name)
	}
	return h.restart(ctx)
}

// Await waits until a handler runs what was asked for last, or for the reason why it does not.
func (f *Fleet) Await(ctx context.Context, name string) error {
	h := f.get(name)
	if h == nil {
		return fmt.Errorf("%w called %q", ErrNoHandler, name)
	}
	h.mu.Lock()
	g := h.current
	if h.next != nil {
		g = h.next
	}
	h.mu.Unlock()
	return h.await(ctx, g, 0)
}

// ErrNoHandler is returned for a handler that the fleet does not have.
var ErrNoHandler = errors.New("there is no handler")

func (f *Fleet) get(name string) *handler {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handlers[name]
}

func (f *Fleet) all() []*handler {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.order)
}

// Run starts all handlers at once and keeps them running until ctx ends; then it stops every process and returns nil.
func (f *Fleet) Run(ctx context.Context) error {
	// The spawner outlives the processes: they would be killed with it.
	spawning, stopSpawner := context.WithCancel(context.WithoutCancel(ctx))
	var spawner sync.WaitGroup
	spawner.Go(func() { _ = f.spawner.Run(spawning) })

	f.mu.Lock()
	f.running = true
	f.mu.Unlock()
	for _, h := range f.all() {
		h.start()
	}
	<-ctx.Done()
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	// From here on no handler is added.
	all := f.all()
	for _, h := range all {
		h.stop()
	}
	for _, h := range all {
		h.wait()
	}
	f.leaving.Wait()
	stopSpawner()
	spawner.Wait()
	f.machine.Close()
	if err := f.dirs.Close(); err != nil {
		f.config.Log.Warn("the directory of handler sockets could not be removed", "err", err)
	}
	return nil
}

// environment is what every handler gets of the daemon's variables.
func (f *Fleet) environment() []string { return launch.Environment(os.Environ(), f.config.Environment) }

// Availability tells how an agent should announce itself; the channel is closed at the next change.
func (f *Fleet) Availability(name string) (dispatch.Availability, <-chan struct{}) {
	h := f.get(name)
	if h == nil {
		return dispatch.Unavailable, make(chan struct{})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.availabilityLocked(), h.changed
}

// availability of a handler in each state. An unhealthy one is being replaced, an idle one starts with the next task.
func availability(s unit.State) dispatch.Availability {
	switch s {
	case unit.Ready, unit.Idle:
		return dispatch.Available
	case unit.Starting, unit.Unhealthy, unit.BackingOff:
		return dispatch.Recovering
	}
	return dispatch.Unavailable
}
