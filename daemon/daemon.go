// Package daemon builds the daemon's tree and runs it: state lock, control socket, handlers, agents; and takes it down
// in reverse, so that no task loses its end.
//
// A problem of one handler, card or agent is a reason in the status and a line in the log; the rest goes on.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/supervisor"
)

// Config of a Daemon. Settings, Key and Log are required.
type Config struct {
	Settings config.Config
	// Key returns the API key of an agent with this key file ("" for none of its own).
	Key     func(keyFile string) (string, error)
	Version string
	Log     *slog.Logger
	// Getenv reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; nil when systemd is not to be told anything.
	Getenv func(string) string
	// Settle is how long the plugins directories must be quiet before a change is looked at; 500 ms when zero.
	Settle time.Duration
	// OnAgent is called before an agent is started; an error keeps it from being served.
	OnAgent func(card.Card) error
}

// ErrAuthFinal means that the network has refused the authentication of every agent for good: starting again would
// change nothing.
var ErrAuthFinal = errors.New("the network refuses the authentication of every agent for good")

// stopMargin is added to drain and grace for what the agents still have to say, before they are left behind.
const stopMargin = 30 * time.Second

// fleetStopTimeout bounds the end of all handlers beyond their own time to stop.
const fleetStopTimeout = 15 * time.Second

// Daemon is one daemon. Its methods are safe for concurrent use.
type Daemon struct {
	cfg      Config
	lock     *stateLock
	journal  *journal.Journal
	events   *event.Bus
	listener net.Listener
	notify   *notifier
	slots    agent.Slots // nil for no limit
	shelf    shelf

	deployment networkPlace
	changed    changes

	// agents are the goroutines of agents, and of what waits for more of them.
	agents sync.WaitGroup
	// final closes when every agent has been refused for good.
	final     chan struct{}
	finalOnce sync.Once

	// applying serializes reconcile; it is taken before mu.
	applying sync.Mutex
	// mu guards the fields that follow.
	mu       sync.Mutex
	fleet    *supervisor.Fleet
	plan     plan
	applied  map[string]supervisor.HandlerConfig // what the fleet was told last, by name
	served   map[string]*served                  // by agent name
	gone     agent.Counts                        // of agents that are not served any more
	starting []*served                           // to be started by launch
	waiting  map[string]bool                     // handlers whose description counts and has not come; false: not expected any more
	awaiting []string                            // of those, the ones that launch has to wait for
	// descriptions are the cards that handlers return.
	descriptions map[string][]card.Card
	reasons      []string
	planned      bool
	stopping     bool
	drained      bool   // by an operator
	round        *round // nil before the first and after a drain
}

// New takes the state directory and opens the control socket, so that what stands in the way is an error here. Run or
// Close must follow.
func New(cfg Config) (*Daemon, error) {
	if cfg.Log == nil || cfg.Key == nil {
		return nil, errors.New("a daemon needs a log and a source of API keys")
	}
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	d := &Daemon{
		cfg: cfg, events: event.NewBus(event.Config{}), served: map[string]*served{}, waiting: map[string]bool{}, descriptions: map[string][]card.Card{},
		applied: map[string]supervisor.HandlerConfig{}, final: make(chan struct{}),
		deployment: networkPlace{known: make(chan struct{}), moved: make(chan struct{}, 1)}, notify: newNotifier(cfg.Getenv, os.Getpid(), cfg.Log),
	}
	if n := cfg.Settings.Limits.Tasks; n > 0 {
		d.slots = newSlots(n)
	}
	var err error
	if d.lock, err = lockState(cfg.Settings.StateDir); err != nil {
		return nil, err
	}
	if d.journal, err = openJournal(cfg); err != nil {
		return nil, errors.Join(err, d.lock.release())
	}
	if d.listener, err = control.Listen(context.Background(), cfg.Settings.Socket); err != nil {
		return nil, errors.Join(err, d.journal.Close(), d.lock.release())
	}
	return d, nil
}

// Close releases what New took. Run does it itself.
func (d *Daemon) Close() error {
	return errors.Join(d.listener.Close(), d.journal.Close(), d.lock.release())
}

// openJournal opens the journal in the state directory. One that cannot be used keeps the daemon from starting, because
// what is in it is owed to somebody: an operator must decide.
func openJournal(cfg Config) (*journal.Journal, error) {
	dir := cfg.Settings.StateDir
	secret, err := journal.Secret(dir, cfg.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return nil, err
	}
	return journal.Open(journal.Config{Dir: dir, Secret: secret, Log: cfg.Log})
}

// closeJournal is after the end of everything that writes to it.
func (d *Daemon) closeJournal() {
	if err := d.journal.Close(); err != nil {
		d.cfg.Log.Error("the journal could not be closed in order", "err", err)
	}
}

// Run serves until ctx ends, then drains and returns nil. An error that matches ErrAuthFinal means that no agent may
// come back.
func (d *Daemon) Run(ctx context.Context) error {
	// The layers end one after the other, not all with ctx.
	base := context.WithoutCancel(ctx)
	controlCtx, stopControl := context.WithCancel(base)
	fleetCtx, stopFleet := context.WithCancel(base)
	agentsCtx, stopAgents := context.WithCancel(base)
	defer stopControl()
	defer stopFleet()
	defer stopAgents()
	defer d.lock.release()
	defer d.closeJournal()

	controlDone, err := d.startControl(controlCtx)
	if err != nil {
		return errors.Join(err, d.listener.Close())
	}
	d.notify.send(notifyReady, "STATUS=starting")
	d.cfg.Log.Info("daemon runs", "version", d.cfg.Version, "pid", os.Getpid(), "socket", d.cfg.Settings.Socket, "state_dir", d.cfg.Settings.StateDir)

	events := d.events.Follow(event.States()...)
	defer events.Close()
	logCtx, stopLog := context.WithCancel(base)
	var logged sync.WaitGroup
	logged.Go(func() { event.Log(logCtx, events, d.cfg.Log) })

	var side sync.WaitGroup
	sideCtx, stopSide := context.WithCancel(base)
	side.Go(func() { d.notify.watch(sideCtx, d.alive) })
	side.Go(func() { d.report(sideCtx) })
	states := d.events.Follow(event.AgentState)
	side.Go(func() {
		defer states.Close()
		for {
			if _, err := states.Next(sideCtx); err != nil {
				return
			}
			d.changed.broadcast()
		}
	})

	fleetDone, err := d.startFleet(fleetCtx)
	if err == nil {
		d.startAgents(agentsCtx)
		select {
		case <-ctx.Done():
		case <-d.final:
		}
	}

	d.notify.send(notifyStopping, "STATUS=stopping")
	drained, stopExtending := context.WithCancel(base)
	side.Go(func() { d.notify.extend(drained) })
	d.drain(stopAgents)
	stopFleet()
	d.join("handlers", fleetDone, d.cfg.Settings.Timeouts.HandlerStop+fleetStopTimeout)
	stopExtending()
	stopSide()
	side.Wait()
	stopLog()
	logged.Wait()
	if client := d.deployment.get().client; client != nil {
		client.Close()
	}
	stopControl()
	d.cfg.Log.Info("daemon ends")
	<-controlDone
	select {
	case <-d.final:
		return errors.Join(err, fmt.Errorf("%w: check the API key, or ask an administrator of the network", ErrAuthFinal))
	default:
		return err
	}
}

// startControl makes the control socket answer, before anything else is there to be asked about.
func (d *Daemon) startControl(ctx context.Context) (<-chan struct{}, error) {
	s, err := control.NewServer(control.ServerConfig{Listener: d.listener, Daemon: d, Log: d.cfg.Log, UID: control.UID()})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			d.cfg.Log.Error("the control socket is lost; tasks go on", "err", err) // a watchdog restarts us
		}
	}()
	return done, nil
}

// startFleet makes the plan and starts the handlers.
func (d *Daemon) startFleet(ctx context.Context) (<-chan struct{}, error) {
	done := make(chan struct{})
	c := d.cfg.Settings
	fleet, err := supervisor.New(supervisor.Config{
		Log: d.cfg.Log, Events: d.events, RuntimeDir: filepath.Join(c.StateDir, "run"), Environment: c.Environment,
		Shim: shim(), Cgroup: c.Isolation.Cgroup,
		Timeouts: supervisor.Timeouts{
			Handshake: c.Timeouts.HandlerHandshake, Describe: c.Timeouts.HandlerDescribe, Health: c.Timeouts.HandlerHealth,
			HealthInterval: c.Timeouts.HandlerHealthInterval, Stop: c.Timeouts.HandlerStop,
		},
		// The agents refuse what is larger too; here it is refused before it has filled the disk.
		MaxArtifactBytes: int64(c.Limits.ArtifactBytes),
		OnCards:          d.described, OnUsed: d.used,
	})
	if err != nil {
		close(done)
		return done, fmt.Errorf("start the handlers: %w", err)
	}
	d.mu.Lock()
	d.fleet = fleet
	d.mu.Unlock()
	d.openShelf()
	d.carryOut(d.look())
	go func() {
		defer close(done)
		if err := fleet.Run(ctx); err != nil {
			d.cfg.Log.Error("the handlers have ended", "err", err)
		}
	}()
	return done, nil
}

// startAgents starts the agents as they become known, and follows what changes.
func (d *Daemon) startAgents(ctx context.Context) {
	d.agents.Go(func() { d.launch(ctx) })
	d.agents.Go(func() { d.findDeployment(ctx) })
	d.agents.Go(func() { d.follow(ctx) })
	d.mu.Lock()
	d.planned = true
	d.mu.Unlock()
	d.changed.broadcast()
}

// drain lets the agents leave the network and their tasks end.
func (d *Daemon) drain(stopAgents context.CancelFunc) {
	d.mu.Lock()
	d.stopping = true
	d.mu.Unlock()
	d.changed.broadcast()
	d.cfg.Log.Info("daemon drains", "drain", d.cfg.Settings.Drain)
	stopAgents()
	done := make(chan struct{})
	go func() {
		d.agents.Wait()
		close(done)
	}()
	d.join("agents", done, d.cfg.Settings.Drain+d.cfg.Settings.CancelGrace+stopMargin)
}

// Hasten cuts the drain short: every task is asked to end now, with reason SHUTDOWN. It does not wait.
func (d *Daemon) Hasten() {
	for _, s := range d.everyone() {
		if a := s.get(); a != nil {
			a.Hasten()
		}
	}
}

func (d *Daemon) join(what string, done <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		d.cfg.Log.Error("not everything ended in time and is left behind", "what", what, "waited", limit)
	}
}

// alive asks the daemon the way a client would.
func (d *Daemon) alive(ctx context.Context) error {
	c, err := control.Dial(ctx, d.cfg.Settings.Socket)
	if err != nil {
		return err
	}
	_, err = c.Status(ctx)
	return errors.Join(err, c.Close())
}

// report logs when the daemon becomes ready or stops being so, and tells systemd.
func (d *Daemon) report(ctx context.Context) {
	was := false
	for {
		changed := d.changed.wait()
		s := d.Status()
		if s.Ready != was {
			was = s.Ready
			if was {
				d.cfg.Log.Info("daemon is ready", "agents", len(s.Agents))
				d.notify.send(fmt.Sprintf("STATUS=ready, %d agents online", len(s.Agents)))
			} else {
				d.cfg.Log.Info("daemon is not ready", "reasons", s.Reasons)
				d.notify.send("STATUS=not ready, see blocksd status")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
