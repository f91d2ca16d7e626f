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
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/launch"
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
	// RuntimeDir is a short private directory for sockets, created and swept here. When the path of a socket in it would
	// be too long, or when it is empty, a private directory below the system's temporary one is used.
	RuntimeDir string
	Handlers   []HandlerConfig
	// Environment names variables that are handed on to handlers beside the built-in list. Secrets never are.
	Environment []string
	Timeouts    Timeouts
	// Hold is how long a task waits for a process while one is expected; DefaultHold when zero.
	Hold   time.Duration
	Now    func() time.Time // nil is time.Now
	Jitter func() float64   // in [0,1); nil is random
	// OnCards is called once per generation of a handler, when it has described itself and before it gets tasks.
	OnCards func(handler string, cards []card.Card)
}

// HandlerConfig is one handler.
type HandlerConfig struct {
	Name string
	Path string // absolute
	Args []string
	Dir  string // working directory; "" is the root directory
	// Instances is the number of processes; 1 when zero.
	Instances int
	// SHA256 pins the file, in hexadecimal; "" takes whatever is there.
	SHA256  string
	Restart unit.Policy
}

// Fleet is all handlers of a daemon. Its methods may be used from several goroutines, before and after Run too.
type Fleet struct {
	config   Config
	dirs     *launch.SocketDirs
	spawner  *launch.Spawner
	handlers map[string]*handler // immutable
	order    []*handler          // immutable, as configured

	mu    sync.Mutex
	tasks map[string]*placement // guarded by mu
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
	c.Timeouts = c.Timeouts.Filled()
	f := &Fleet{config: c, spawner: launch.NewSpawner(), handlers: map[string]*handler{}, tasks: map[string]*placement{}, early: map[string]time.Time{}}
	for _, hc := range c.Handlers {
		switch {
		case hc.Name == "":
			return nil, fmt.Errorf("handler with path %q has no name: give it one", hc.Path)
		case !filepath.IsAbs(hc.Path):
			return nil, fmt.Errorf("path %q of handler %s is not absolute: write the whole path", hc.Path, hc.Name)
		case f.handlers[hc.Name] != nil:
			return nil, fmt.Errorf("two handlers are called %s, at %s and %s: rename one", hc.Name, f.handlers[hc.Name].config.Path, hc.Path)
		}
		h := newHandler(f, hc)
		f.handlers[hc.Name] = h
		f.order = append(f.order, h)
	}
	var err error
	if f.dirs, err = launch.OpenSocketDirs(c.RuntimeDir, ""); err != nil {
		return nil, err
	}
	return f, nil
}

// Run starts all handlers at once and keeps them running until ctx ends; then it stops every process and returns nil.
func (f *Fleet) Run(ctx context.Context) error {
	// The spawner outlives the processes: they would be killed with it.
	spawning, stopSpawner := context.WithCancel(context.WithoutCancel(ctx))
	var spawner sync.WaitGroup
	spawner.Go(func() { _ = f.spawner.Run(spawning) })

	for _, h := range f.order {
		h.step(unit.Event{Kind: unit.Start})
	}
	<-ctx.Done()
	for _, h := range f.order {
		h.step(unit.Event{Kind: unit.Stop})
	}
	for _, h := range f.order {
		h.wait()
	}
	stopSpawner()
	spawner.Wait()
	if err := f.dirs.Close(); err != nil {
		f.config.Log.Warn("the directory of handler sockets could not be removed", "err", err)
	}
	return nil
}

// environment is what every handler gets of the daemon's variables.
func (f *Fleet) environment() []string { return launch.Environment(os.Environ(), f.config.Environment) }

// Availability tells how an agent should announce itself; the channel is closed at the next change.
func (f *Fleet) Availability(name string) (wire.Availability, <-chan struct{}) {
	h := f.handlers[name]
	if h == nil {
		return wire.Unavailable, make(chan struct{})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return availability(h.unit.State()), h.changed
}

// availability of a handler in each state. An unhealthy one is being replaced.
func availability(s unit.State) wire.Availability {
	switch s {
	case unit.Ready:
		return wire.Available
	case unit.Starting, unit.Unhealthy, unit.BackingOff:
		return wire.Recovering
	}
	return wire.Unavailable
}
