package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon"
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/sandbox"
)

const (
	// devReadyTimeout bounds the wait for agents to come online; after it dev continues without the rest.
	devReadyTimeout = 10 * time.Second
	// exampleTimeout bounds one example task.
	exampleTimeout = 10 * time.Second
	// devEnvFile is the name of the env file in the state directory, devKeysFile that of the keys of the network.
	devEnvFile  = "dev.env"
	devKeysFile = "network-keys.json"
)

type devOptions struct {
	plugins, projects        []string
	agents, listen, stateDir string
}

func newDev(a *app) *cobra.Command {
	o := devOptions{plugins: []string{filepath.Join("bin", "plugins")}}
	cmd := &cobra.Command{
		Use: "dev", Short: "Try handlers: a private network and the daemon, in one process", Args: argsOfUse, Example: "  blocksd dev --plugins DIR",
		Long: "Try handlers: run a private network and the daemon in one process. The command registers each handler's card, sends each\n" +
			"agent its example input, and shows what happens until Ctrl-C. The other commands find the network by themselves; what other\n" +
			"programs need is in dev.env in the state directory. LOG_LEVEL=info shows the log, too.",
	}
	f := cmd.Flags()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(o.projects) > 0 && !f.Changed("plugins") {
			o.plugins = nil // who names a project wants that one
		}
		return a.dev(cmd.Context(), o)
	}
	f.StringArrayVar(&o.plugins, "plugins", o.plugins, "directory of handler programs; may be repeated")
	f.StringArrayVar(&o.projects, "project", nil, "directory of a project with its agent-card.json; may be repeated; then there are no other handlers without --plugins")
	f.StringVar(&o.agents, "agents", "", "directory of more cards (*.json) to register, for external providers")
	f.StringVar(&o.listen, "listen", "", "loopback address of the network; port 0 for any free port (default "+devListen+" or, if that is taken, any free port)")
	f.StringVar(&o.stateDir, "state-dir", "", "state directory (default $XDG_STATE_HOME/blocksd/dev, else ~/.local/state/blocksd/dev)")
	return cmd
}

func (a *app) dev(ctx context.Context, o devOptions) error {
	defer surviveBrokenPipes()()
	if o.listen != "" {
		if err := checkListen(o.listen); err != nil {
			return err
		}
	}
	cards, err := a.loadCards(o.agents)
	if err != nil {
		return err
	}
	out := a.newLiveLine()
	loaded, err := a.devSettings(o)
	if err != nil {
		return err
	}
	settings := loaded.Config
	if config.CheckSocketPath(settings.Socket) != nil {
		dir, err := os.MkdirTemp("", "blocksd-") // private, with a name that nobody could predict
		if err != nil {
			return fmt.Errorf("make a directory for the control socket: %w", err)
		}
		defer os.RemoveAll(dir)
		settings.Socket = filepath.Join(dir, "blocksd.sock")
	}
	log, level, closeLog, err := a.newPumpedLog(settings.Log, out)
	if err != nil {
		return err
	}
	defer closeLog()
	network, note, err := a.devNetwork(o.listen, settings.StateDir, log)
	if err != nil {
		return err
	}
	settings.Network = config.Network{CDMURL: network.CDMURL(), PubNubOrigin: network.Addr()}

	networkCtx, stopNetwork := context.WithCancel(context.WithoutCancel(ctx))
	networkDone := make(chan error, 1)
	go func() { networkDone <- network.Run(networkCtx) }()
	// The network ends last, because the daemon publishes its last outcomes there.
	closeNetwork := func() error {
		stopNetwork()
		return <-networkDone
	}

	d, err := daemon.New(daemon.Config{
		Settings: settings, Loaded: loaded, Version: version(), Log: log, Level: level, Quiet: !a.wantsLog(),
		Key:     func(string) (string, error) { return network.APIKey(), nil },
		OnAgent: network.Register, WarnUntrusted: true,
	})
	if err != nil {
		return errors.Join(err, closeNetwork())
	}
	for _, w := range loaded.Warnings {
		log.Warn(w)
	}
	envFile := filepath.Join(settings.StateDir, devEnvFile)
	removeStale(envFile)

	began := time.Now()
	daemonCtx, stopDaemon := a.interruptible(ctx)
	defer stopDaemon()
	daemonDone := make(chan error, 1)
	go func() {
		err := a.serve(daemonCtx, d)
		stopDaemon() // ends the waits below
		daemonDone <- err
	}()
	show := newDevShow(out, a.style(), a.wantsLog())
	showing := show.start(context.WithoutCancel(ctx), d)

	err = func() error {
		for _, c := range cards {
			if err := network.Register(c); err != nil {
				return err
			}
		}
		show.say("network", ordinary, "%s (%s)", network.URL(), note)
		if !show.agents(daemonCtx, d, network, cards) {
			return nil
		}
		vars := append(slices.Clone(network.Env()), sandbox.EnvVar{Name: "BLOCKSD_SOCKET", Value: settings.Socket})
		if err := sandbox.WriteEnvFile(envFile, vars); err != nil {
			return err
		}
		fmt.Fprint(out, a.devHint(o, envFile))
		var examples sync.WaitGroup
		examples.Go(func() { show.tryExamples(daemonCtx, d, network) })
		out.run(daemonCtx, d)
		examples.Wait()
		return nil
	}()
	if err != nil {
		stopDaemonNow(stopDaemon, d)
	}
	daemonErr := <-daemonDone
	removeStale(envFile) // nothing in it works now
	showing()
	if err == nil && daemonErr == nil {
		show.summary(formOfStatus(d.Status()).Tasks, time.Since(began))
	}
	return errors.Join(err, daemonErr, closeNetwork())
}

// devListen is where the network of dev is unless another address is given or this one is taken: a shell that knows it
// need not learn another one at each start.
const devListen = "127.0.0.1:3002"

// devNetwork opens the network, with the keys that it had the last time. note says for people what is particular about
// its address.
func (a *app) devNetwork(listen, stateDir string, log *slog.Logger) (network *sandbox.Sandbox, note string, err error) {
	const local = "on this machine only"
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, "", fmt.Errorf("use state directory %s: %w", stateDir, err)
	}
	open := func(address string) (*sandbox.Sandbox, error) {
		return sandbox.New(sandbox.Config{Listen: address, KeysFile: filepath.Join(stateDir, devKeysFile), Log: log.With("part", "sandbox"), Version: version()})
	}
	if listen != "" {
		network, err = open(listen)
		return network, local, err
	}
	if network, err = open(devListen); errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(devListen)
		network, err = open("127.0.0.1:0")
		return network, "port " + port + " is taken", err
	}
	return network, local, err
}

// wantsLog says whether the user asks for the log, besides what dev itself shows.
func (a *app) wantsLog() bool {
	return a.getenv("LOG_LEVEL") != "" || a.getenv("BLOCKSD_LOG__LEVEL") != ""
}

// devHint says how to use the network from elsewhere. In the usual state directory commands find it by themselves.
func (a *app) devHint(o devOptions, envFile string) string {
	source := fmt.Sprintf("  set -a; . %s; set +a\n", shell.Word(envFile))
	name := programName()
	if o.stateDir != "" {
		return fmt.Sprintf("\nIn another terminal:\n%s  %s status\nPress Ctrl-C to drain and exit.\n\n", source, name)
	}
	return fmt.Sprintf("\nIn another terminal:\n  %s status\nFor other programs:\n%sPress Ctrl-C to drain and exit.\n\n", name, source)
}

// devSettings are the defaults with the user's variables for logs and limits. Variables about the network do not count:
// dev has its own.
func (a *app) devSettings(o devOptions) (config.Loaded, error) {
	dir, err := a.devStateDir(o.stateDir)
	if err != nil {
		return config.Loaded{}, err
	}
	flags := map[string]any{"state_dir": dir, "plugins.dirs": o.plugins, "projects": o.projects, "log.format": "text"}
	flags["log.level"] = a.logLevel("error") // what happens is shown without the log
	var environ []string
	for _, kv := range a.Env {
		if !strings.HasPrefix(kv, "BLOCKS_") && !strings.HasPrefix(kv, "BLOCKSD_NETWORK__") && !strings.HasPrefix(kv, "BLOCKSD_PUBNUB_ORIGIN=") {
			environ = append(environ, kv)
		}
	}
	l, err := config.Read(config.Sources{Environ: environ, Flags: flags})
	l.Config.Socket = filepath.Join(dir, "blocksd.sock")
	return l, err
}

// devStateDir is the directory that a flag names, else the user's own.
func (a *app) devStateDir(dir string) (string, error) {
	if dir == "" {
		state := a.getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(state) {
			home := a.getenv("HOME")
			if home == "" {
				return "", usagef("find a state directory: neither XDG_STATE_HOME nor HOME is set: name a directory with --state-dir")
			}
			state = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(state, "blocksd", "dev")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("use state directory %s: %w", dir, err)
	}
	return abs, nil
}

func removeStale(path string) {
	_ = os.Remove(path) // there may be none
}

// stopDaemonNow cancels the tasks and ends the daemon, because dev itself has failed.
func stopDaemonNow(stop context.CancelFunc, d *daemon.Daemon) {
	stop()
	d.CancelNow()
}

// programName is the path with which the user started this program, as a word of commands to copy.
func programName() string {
	if len(os.Args) == 0 {
		return "blocksd"
	}
	return shell.Word(os.Args[0])
}

// online counts the agents that are online.
func online(d *daemon.Daemon) (n, all int, s statusForm) {
	s = formOfStatus(d.Status())
	for _, ag := range s.Agents {
		if ag.State == agent.StateOnline {
			n++
		}
	}
	return n, len(s.Agents), s
}
