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
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/daemon/metrics"
	"github.com/blocksd/blocksd/daemon/runners"
	"github.com/blocksd/blocksd/daemon/tracing"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/runtime/calls"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// Config of a Daemon. Settings, Key and Log are required.
type Config struct {
	Settings config.Config
	// Key returns the API key of an agent with this key file ("" for none of its own).
	Key     func(keyFile string) (string, error)
	Version string
	Log     *slog.Logger
	// Quiet keeps events and the output of handlers out of Log: whoever runs the daemon shows them in another way.
	Quiet bool
	// Getenv reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; nil when systemd is not to be told anything.
	Getenv func(string) string
	// Settle is how long the plugins directories must be quiet before a change is looked at; 500 ms when zero.
	Settle time.Duration
	// WarnUntrusted takes handlers from directories that others may write too, and only warns of them.
	WarnUntrusted bool
	// KeyExpires says when the key of an agent with this key file ends, where the network does not say; zero for unknown. It may
	// be nil.
	KeyExpires func(keyFile string) time.Time
	// KeyLook is how often the network is asked whether it still takes the keys; 55 s when zero.
	KeyLook time.Duration
	// Reload reads the configuration again; nil when it cannot change. Loaded is what it has returned the last time, or
	// what Settings come from.
	Reload func() (config.Loaded, error)
	Loaded config.Loaded
	// Level is that of Log; nil when it cannot be changed.
	Level *slog.LevelVar
	// OwnUsers gives each handler a user of its own, where the daemon is root or has a launcher.
	OwnUsers bool
	// OnAgent is called before an agent is started; an error keeps it from being served.
	OnAgent func(card.Card) error
}

// getenv is Getenv, or one that knows no variable.
func (c Config) getenv() func(string) string {
	if c.Getenv == nil {
		return func(string) string { return "" }
	}
	return c.Getenv
}

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
	cfg     Config
	current atomic.Pointer[config.Config]
	events  *event.Bus
	log     *event.Reader // what the log says of events

	lock      *stateLock
	journal   *journal.Journal
	listener  net.Listener
	notify    *notifier
	programs  *programs
	fleet     *supervisor.Fleet
	taskSlots *taskSlots
	reloads   reloads

	// metrics is nil, like its listener, when nobody may ask for them.
	metrics         *metrics.Metrics
	metricsListener net.Listener
	// tracer is nil when tasks are not traced.
	tracer *tracing.Tracer

	network  *locator
	calls    *calls.Pool
	keys     keyWatch
	sessions sessions
	inbox    *inbox
	served   served
	// agents are the goroutines of agents, and of what starts more of them.
	agents sync.WaitGroup
	// final closes when every agent has been refused for good.
	final    chan struct{}
	stopping atomic.Bool
	// watchers are how many follow the events.
	watchers atomic.Int64
	encoded  encodedEvents
	// operators is the group whose members may change things.
	operators atomic.Pointer[control.Group]
	// unreachable closes when the control socket is lost and another start would bring it back.
	unreachable chan struct{}
	lostOnce    sync.Once
}

// settings are the ones that count now. What is read from them at different moments may differ.
func (d *Daemon) settings() config.Config { return *d.current.Load() }

// New takes the state directory and opens the control socket, so that what stands in the way is an error here. Run or
// Close must follow.
func New(cfg Config) (*Daemon, error) {
	if cfg.Log == nil || cfg.Key == nil {
		return nil, errors.New("a daemon needs a log and a source of API keys")
	}
	cfg.Getenv = cfg.getenv()
	c := cfg.Settings
	d := &Daemon{
		cfg: cfg, events: event.NewBus(event.Config{}), inbox: newInbox(), served: served{slots: map[string]*agentSlot{}},
		final: make(chan struct{}), unreachable: make(chan struct{}), notify: newNotifier(cfg.Getenv, os.Getpid(), cfg.Log),
	}
	d.current.Store(&c)
	d.log = d.events.Follow(d.loggedTypes()...)
	d.reloads.loaded.Store(&cfg.Loaded)
	d.reloads.applied = make(chan struct{}, 1)
	group, err := lookUpGroup(c.Control.OperatorGroup)
	if err != nil {
		return nil, err
	}
	d.operators.Store(&group)
	d.network = &locator{
		where: deployment.Config{CDMURL: c.Network.CDMURL, BackendURL: c.Network.BackendURL, PubNubOrigin: c.Network.PubNubOrigin},
		kept:  keptDocument{filepath.Join(c.StateDir, deploymentFile), cfg.Log}, log: cfg.Log,
		waiting: d.explain, moved: d.sessions.renew,
		known: make(chan struct{}), suspected: make(chan struct{}, 1),
	}
	if d.calls, err = calls.New(calls.Config{Deployment: d.network.deployment, Log: cfg.Log}); err != nil {
		return nil, err
	}
	d.taskSlots = newTaskSlots(c.Limits.Tasks)
	if d.lock, err = lockState(c.StateDir); err != nil {
		return nil, err
	}
	if err := d.openTelemetry(c.Telemetry); err != nil {
		return nil, errors.Join(err, d.lock.release())
	}
	if d.journal, err = openJournal(cfg, d.committed); err != nil {
		return nil, errors.Join(err, d.closeTelemetry(), d.lock.release())
	}
	if d.listener, err = control.Listen(context.Background(), c.Socket); err != nil {
		return nil, errors.Join(err, d.closeTelemetry(), d.journal.Close(), d.lock.release())
	}
	d.programs = openPrograms(c.StateDir, runnersOf(cfg), cfg.WarnUntrusted, cfg.Log)
	if d.fleet, err = d.newFleet(c); err != nil {
		return nil, errors.Join(fmt.Errorf("start the handlers: %w", err), d.closeTelemetry(), d.listener.Close(), d.journal.Close(), d.lock.release())
	}
	return d, nil
}

// Close releases what New took. Run does it itself.
func (d *Daemon) Close() error {
	d.log.Close()
	d.calls.Close()
	return errors.Join(d.endFleet(), d.closeTelemetry(), d.listener.Close(), d.journal.Close(), d.lock.release())
}

// endFleet frees what a fleet holds that was not run.
func (d *Daemon) endFleet() error {
	ended, end := context.WithCancel(context.Background())
	end()
	return d.fleet.Run(ended)
}

func (d *Daemon) newFleet(c config.Config) (*supervisor.Fleet, error) {
	users, err := openUsers(d.cfg)
	if err != nil {
		return nil, err
	}
	output := d.cfg.Log
	if d.cfg.Quiet {
		output = slog.New(slog.DiscardHandler)
	}
	return supervisor.New(supervisor.Config{
		Log: d.cfg.Log, OutputLog: output, Events: d.events, RuntimeDir: filepath.Join(c.StateDir, "run"),
		Shim: launch.Self(), Cgroup: c.Isolation.Cgroup, Closed: closedFiles(d.cfg), Sockets: []string{c.Socket}, Users: users, Launcher: launcher(d.cfg),
		OnCards: d.inbox.describe, OnUsed: d.inbox.use,
	})
}

// usersFile in the state directory says which user each handler has.
const usersFile = "users"

// openUsers is nil when handlers get no users of their own.
func openUsers(cfg Config) (*launch.Users, error) {
	first, last, err := cfg.Settings.Isolation.UserRange()
	if err != nil || last == 0 || !cfg.OwnUsers || os.Geteuid() != 0 && launcher(cfg) == "" {
		return nil, err
	}
	return launch.OpenUsers(filepath.Join(cfg.Settings.StateDir, usersFile), first, last)
}

// runnersOf are the runners for projects, from which every handler may read and no handler may write.
func runnersOf(cfg Config) runners.Runners {
	return runners.For(cfg.Settings.StateDir, cfg.Getenv("CACHE_DIRECTORY"))
}

// launcher is the socket of the one that starts handlers as other users, "" when there is none to look for.
func launcher(cfg Config) string {
	if !cfg.OwnUsers || os.Geteuid() == 0 {
		return ""
	}
	return cfg.Settings.Isolation.Launcher
}

// closedFiles are the files of the daemon that no handler may open.
func closedFiles(cfg Config) []string {
	c := cfg.Settings
	closed := []string{c.StateDir, c.Network.APIKeyFile, cfg.Getenv("CREDENTIALS_DIRECTORY"), runnersOf(cfg).Dir}
	for _, a := range c.Agents {
		closed = append(closed, a.KeyFile)
	}
	return closed
}

// explain says in every agent that waits for the network why it does.
func (d *Daemon) explain(reason string) {
	for _, s := range d.served.all() {
		s.explain(reason)
	}
}

// openJournal opens the journal in the state directory. One that cannot be used keeps the daemon from starting, because
// what is in it is owed to somebody: an operator must decide.
func openJournal(cfg Config, committed func(time.Duration)) (*journal.Journal, error) {
	dir := cfg.Settings.StateDir
	secret, err := journal.Secret(dir, cfg.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return nil, err
	}
	return journal.Open(journal.Config{Dir: dir, Secret: secret, Log: cfg.Log, OnCommit: committed})
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
		return errors.Join(err, d.endFleet(), d.closeTelemetry(), d.listener.Close())
	}
	c := d.settings()
	d.notify.send(notifyReady, "STATUS=starting")
	d.cfg.Log.Info("daemon runs", "version", d.cfg.Version, "pid", os.Getpid(), "socket", c.Socket, "state_dir", c.StateDir)

	var side sync.WaitGroup
	sideCtx, stopSide := context.WithCancel(base)
	side.Go(func() { d.notify.watch(sideCtx, d.alive) })
	side.Go(func() { d.report(sideCtx) })
	side.Go(func() { d.serveMetrics(sideCtx) })
	side.Go(func() { d.trace(sideCtx) })
	fleetDone := d.startFleet(fleetCtx)
	d.agents.Go(func() { d.reconcile(agentsCtx) })
	d.agents.Go(func() { d.network.run(agentsCtx) })
	d.agents.Go(func() { d.watchFiles(agentsCtx) })
	d.agents.Go(func() { d.watchKeys(agentsCtx) })
	select {
	case <-ctx.Done():
	case <-d.final:
	case <-d.unreachable:
	}

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
	select {
	case <-d.final:
		return fmt.Errorf("%w: check the API key, or ask an administrator of the network", ErrAuthFinal)
	case <-d.unreachable:
		return fmt.Errorf("control socket %s was removed and cannot be made again: start the daemon again, which makes its directory", c.Socket)
	default:
		return nil
	}
}

// loseSocket drains a daemon that nobody can ask any more, if systemd starts it again: with its directory, which only
// systemd can make. Without systemd the tasks are worth more than the socket.
func (d *Daemon) loseSocket() {
	if d.notify.socket != "" {
		d.lostOnce.Do(func() { close(d.unreachable) })
	}
}

// startControl makes the control socket answer, before anything else is there to be asked about.
func (d *Daemon) startControl(ctx context.Context) (<-chan struct{}, error) {
	s, err := control.NewServer(control.ServerConfig{
		Listener: d.listener, Daemon: d, Log: d.cfg.Log, UID: control.UID(), OnLost: d.loseSocket,
		Owned:     d.fleet.Owns,
		Operators: func() control.Group { return *d.operators.Load() },
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
	d.stopping.Store(true)
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
