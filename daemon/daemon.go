// Package daemon builds the daemon's tree and runs it: state lock, control socket, handlers, agents; and takes it down
// in reverse, so that no task loses its end.
//
// A problem of one handler, card or agent is a reason in the status and a line in the log; the rest goes on.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/runtime/calls"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/supervisor"
)

// ErrAuthFinal means that the network has refused the authentication of every agent for good: starting again would
// change nothing.
var ErrAuthFinal = errors.New("the network refuses the authentication of every agent for good")

// ErrUnusable matches the errors of New that last until somebody changes something on this machine.
var ErrUnusable = journal.ErrUnusable

// stopMargin is added to drain and grace for what the agents still have to say, before they are left behind.
const stopMargin = 30 * time.Second

// fleetStopTimeout bounds the end of all handlers beyond their own time to stop.
const fleetStopTimeout = 15 * time.Second

// Daemon is one daemon. Its methods are safe for concurrent use.
type Daemon struct {
	cfg           Config
	configuration configuration
	events        *event.Bus
	log           *event.Reader // what the log says of events
	watchers      atomic.Int64  // how many follow the events
	encoded       encodedEvents // for the watchers
	taken         undo          // of what New has taken

	lock      *stateLock
	journal   *journal.Journal
	listener  net.Listener
	notify    *notifier
	telemetry *telemetry
	programs  *programs
	names     *nameHolders
	fleet     *supervisor.Fleet
	taskSlots *taskSlots

	network  *locator
	calls    *calls.Pool
	keys     keyWatch
	sessions sessions
	inbox    *inbox
	served   served
	// agents are the goroutines of agents, and of what starts more of them.
	agents sync.WaitGroup
	ending *ending
}

// settings are the ones that count now. What is read from them at different moments may differ.
func (d *Daemon) settings() config.Config { return *d.configuration.current.Load() }

// New takes the state directory and opens the control socket, so that what stands in the way is an error here. Run or
// Close must follow.
func New(cfg Config) (_ *Daemon, err error) {
	if cfg.Log == nil || cfg.Key == nil {
		return nil, errors.New("a daemon needs a log and a source of API keys")
	}
	cfg.Getenv = cfg.getenv()
	c := cfg.Settings
	d := &Daemon{
		cfg: cfg, events: event.NewBus(event.Config{}), inbox: newInbox(), served: served{slots: map[string]*agentSlot{}},
		ending: newEnding(), notify: newNotifier(cfg.Getenv, os.Getpid(), cfg.Log), taskSlots: newTaskSlots(c.Limits.Tasks),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.taken.run())
		}
	}()
	group, err := lookUpGroup(c.Control.OperatorGroup)
	if err != nil {
		return nil, err
	}
	d.configuration.open(cfg.Loaded, c, group)
	d.log = d.events.Follow(d.loggedTypes()...)
	d.taken.add(func() error { d.log.Close(); return nil })
	d.network = &locator{
		where: deployment.Config{CDMURL: c.Network.CDMURL, BackendURL: c.Network.BackendURL, PubNubOrigin: c.Network.PubNubOrigin},
		kept:  keptDocument{filepath.Join(c.StateDir, deploymentFile), cfg.Log}, log: cfg.Log,
		waiting: d.explain, moved: d.sessions.renew,
		known: make(chan struct{}), suspected: make(chan struct{}, 1),
	}
	if d.calls, err = calls.New(calls.Config{Deployment: d.network.deployment, Log: cfg.Log}); err != nil {
		return nil, err
	}
	d.taken.add(func() error { d.calls.Close(); return nil })
	if d.lock, err = lockState(c.StateDir, cfg.Log); err != nil {
		return nil, err
	}
	d.taken.add(d.lock.release)
	if d.telemetry, err = openTelemetry(cfg, d.events, d.snapshot); err != nil {
		return nil, err
	}
	d.taken.add(d.telemetry.close)
	if d.names, err = openNames(cfg); err != nil {
		return nil, err
	}
	if d.journal, err = openJournal(cfg, d.telemetry.committed); err != nil {
		return nil, err
	}
	d.taken.add(d.journal.Close)
	if d.listener, err = control.Listen(context.Background(), c.Socket); err != nil {
		return nil, err
	}
	d.taken.add(d.listener.Close)
	d.programs = openPrograms(c.StateDir, runnersOf(cfg), cfg.WarnUntrusted, cfg.Log)
	if d.fleet, err = d.newFleet(c); err != nil {
		return nil, fmt.Errorf("start the handlers: %w", err)
	}
	d.taken.add(d.endFleet)
	return d, nil
}

// Close releases what New took. Run does it itself.
func (d *Daemon) Close() error { return d.taken.run() }

// endFleet frees what a fleet holds that was not run.
func (d *Daemon) endFleet() error {
	ended, end := context.WithCancel(context.Background())
	end()
	return d.fleet.Run(ended)
}

// explain says in every agent that waits for the network why it does.
func (d *Daemon) explain(reason string) {
	for _, s := range d.served.all() {
		s.explain(reason)
	}
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
	var logging sync.WaitGroup
	logCtx, stopLog := context.WithCancel(base)
	logging.Go(func() { event.Log(logCtx, d.log, d.cfg.Log) })
	defer d.log.Close()
	defer logging.Wait()
	defer stopLog()
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
		return errors.Join(err, d.endFleet(), d.telemetry.close(), d.listener.Close())
	}
	c := d.settings()
	d.notify.send(notifyReady, "STATUS=starting")
	d.cfg.Log.Info("daemon runs", "version", d.cfg.Version, "pid", os.Getpid(), "socket", c.Socket, "state_dir", c.StateDir)

	var side sync.WaitGroup
	sideCtx, stopSide := context.WithCancel(base)
	side.Go(func() { d.notify.watch(sideCtx, d.alive) })
	side.Go(func() { d.report(sideCtx) })
	side.Go(func() { d.telemetry.run(sideCtx) })
	fleetDone := d.startFleet(fleetCtx)
	d.agents.Go(func() { d.reconcile(agentsCtx) })
	d.agents.Go(func() { d.network.run(agentsCtx) })
	d.agents.Go(func() { d.watchFiles(agentsCtx) })
	d.agents.Go(func() { d.watchKeys(agentsCtx) })
	d.ending.wait(ctx)

	d.notify.send(notifyStopping, "STATUS=stopping")
	drained, stopExtending := context.WithCancel(base)
	side.Go(func() { d.notify.extend(drained) })
	d.drain(stopAgents)
	stopFleet()
	d.join("handlers", fleetDone, d.settings().Timeouts.HandlerStop+fleetStopTimeout)
	stopExtending()
	stopSide()
	side.Wait()
	d.calls.Close()
	d.network.close()
	stopControl()
	stopLog()
	logging.Wait()
	d.cfg.Log.Info("daemon ends")
	<-controlDone
	return d.ending.reason(c.Socket)
}

// loseSocket drains a daemon that nobody can ask any more, if systemd starts it again: with its directory, which only
// systemd can make. Without systemd the tasks are worth more than the socket.
func (d *Daemon) loseSocket() {
	if d.notify.socket != "" {
		d.ending.loseSocket()
	}
}

// startControl makes the control socket answer, before anything else is there to be asked about.
func (d *Daemon) startControl(ctx context.Context) (<-chan struct{}, error) {
	s, err := control.NewServer(control.ServerConfig{
		Listener: d.listener, Daemon: d, Log: d.cfg.Log, UID: control.UID(), OnLost: d.loseSocket,
		Owned:     d.fleet.Owns,
		Operators: func() control.Group { return *d.configuration.operators.Load() },
	})
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

// startFleet keeps the handlers running that the reconciler applies.
func (d *Daemon) startFleet(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.fleet.Run(ctx); err != nil {
			d.cfg.Log.Error("the handlers have ended", "err", err)
		}
	}()
	return done
}

// drain lets the agents leave the network and their tasks end.
func (d *Daemon) drain(stopAgents context.CancelFunc) {
	c := d.settings()
	d.ending.begun.Store(true)
	d.events.Emit(event.Event{Type: event.Drain, State: "stopping", Reason: fmt.Sprintf("the daemon stops, and gives tasks %s to end", c.Drain)})
	stopAgents()
	done := make(chan struct{})
	go func() {
		d.agents.Wait()
		close(done)
	}()
	d.join("agents", done, c.Drain+c.CancelGrace+stopMargin)
}

// CancelNow cuts the drain short: every task is asked to end now, with reason SHUTDOWN. It does not wait.
func (d *Daemon) CancelNow() {
	for _, s := range d.served.all() {
		if a := s.get(); a != nil {
			a.CancelNow()
		}
	}
}

// join waits for what a layer's end closes, within its limit.
func (d *Daemon) join(what string, done <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		d.cfg.Log.Error("not everything ended in time and is left behind", "what", what, "waited", limit)
	}
}
