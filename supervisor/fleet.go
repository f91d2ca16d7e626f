// Package supervisor runs the handlers of a daemon: it starts their processes, starts them again when they fail, hands out
// tasks to them and stops them in the end. A handler can hurt only itself: whatever one does, the others and the daemon go
// on.
package supervisor

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/logpump"
)

// Fleet is all handlers of a daemon. Its methods may be used from several goroutines, before and after Run too.
type Fleet struct {
	config  Config
	dirs    *launch.SocketDirs
	spawner *launch.Spawner
	machine *launch.Machine
	buffer  *logpump.Buffer
	hashes  catalog.Hashes
	hold    func(time.Duration) (late <-chan time.Time, stop func()) // bounds the wait for a process

	tasks   *taskTable
	leaving sync.WaitGroup // handlers that were forgotten; Add only under mu while not stopped

	mu       sync.Mutex          // taken before that of a handler
	handlers map[string]*handler // guarded by mu, like the fields below
	order    []*handler          // as configured; those that are being removed last
	wanted   map[*handler]bool   // those that the last Apply wants, although some may not have been deployed again yet
	running  bool
	stopped  bool
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
	if c.Events == nil {
		c.Events = event.NewBus(event.Config{})
	}
	c.Timeouts = c.Timeouts.Filled()
	f := &Fleet{config: c, spawner: launch.NewSpawner(), hold: timer, buffer: &logpump.Buffer{}, tasks: newTaskTable(c.Now), handlers: map[string]*handler{}}
	if err := f.Apply(c.Handlers); err != nil {
		return nil, err
	}
	var err error
	if f.dirs, err = launch.OpenSocketDirs(c.RuntimeDir, "", c.Log); err != nil {
		return nil, err
	}
	f.machine = launch.Probe(c.Shim, c.Cgroup)
	f.machine.CloseFiles(append(slices.Clone(c.Closed), f.dirs.Base()), c.Sockets)
	f.machine.Users = c.Users
	f.machine.UseLauncher(c.Launcher)
	return f, nil
}

// Apply makes handlers those that run. New ones are started. One whose configuration or content has changed gets a new
// generation alongside the old one, which takes over when it is ready; if it does not get ready the old one stays, and the
// status says why. Those that are not named any more finish their tasks and end. An error changes nothing.
func (f *Fleet) Apply(handlers []HandlerConfig) error {
	if err := check(handlers); err != nil {
		return err
	}
	f.mu.Lock()
	var order, begin, unwanted []*handler
	deploy := map[*handler]HandlerConfig{}
	f.wanted = map[*handler]bool{}
	for _, c := range handlers {
		h := f.handlers[c.Name]
		if h == nil {
			h = newHandler(f, c)
			f.handlers[c.Name] = h
			begin = append(begin, h)
		} else {
			deploy[h] = c
		}
		f.wanted[h] = true
		order = append(order, h)
	}
	for _, h := range f.order {
		if !f.wanted[h] {
			order = append(order, h)
			unwanted = append(unwanted, h)
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
	for _, h := range unwanted {
		if h.remove() {
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
	if h.rollout.Ended() && !f.wanted[h] && f.handlers[h.name] == h && !f.stopped {
		f.leaving.Go(h.wait)
		delete(f.handlers, h.name)
		f.order = slices.DeleteFunc(f.order, func(other *handler) bool { return other == h })
		f.buffer.Forget(h.name)
	}
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
	// From now on no handler is added.
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

// Owns reports whether a process is one of a handler, or was started by one, as far as that can be seen.
func (f *Fleet) Owns(pid int) bool { return f.spawner.Owns(pid) }

// Availability says how an agent should announce itself; the channel is closed at the next change.
func (f *Fleet) Availability(name string) (dispatch.Availability, <-chan struct{}) {
	h := f.get(name)
	if h == nil {
		return dispatch.Unavailable, make(chan struct{})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rollout.Availability(), h.changed
}
