package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/daemon"
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/sandbox"
)

const (
	// devReadyTimeout bounds the wait for agents to come online; after it dev continues without the rest.
	devReadyTimeout = 10 * time.Second
	// exampleTimeout bounds one example task: the env file, which scripts wait for, is written after the examples.
	exampleTimeout = 10 * time.Second
	// devEnvFile is the name of the env file in the state directory.
	devEnvFile = "dev.env"
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
			"agent its example input, then runs until Ctrl-C. It writes the variables that clients need to dev.env in the state directory.",
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
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "loopback address of the network; port 0 for any free port")
	f.StringVar(&o.stateDir, "state-dir", "", "state directory (default $XDG_STATE_HOME/blocksd/dev, else ~/.local/state/blocksd/dev)")
	return cmd
}

func (a *app) dev(ctx context.Context, o devOptions) error {
	defer surviveBrokenPipes()()
	if err := checkListen(o.listen); err != nil {
		return err
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
	network, err := sandbox.New(sandbox.Config{Listen: o.listen, Log: log.With("part", "sandbox"), Version: version()})
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
		Settings: settings, Loaded: loaded, Version: version(), Log: log, Level: level,
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

	daemonCtx, stopDaemon := a.interruptible(ctx)
	defer stopDaemon()
	daemonDone := make(chan error, 1)
	go func() {
		err := a.serve(daemonCtx, d)
		stopDaemon() // ends the waits below
		daemonDone <- err
	}()

	err = func() error {
		for _, c := range cards {
			if err := network.Register(c); err != nil {
				return err
			}
		}
		fmt.Fprintf(out, "network   %s (on this machine only)\n", network.URL())
		a.tryAgents(daemonCtx, d, network, settings, cards, out)
		if daemonCtx.Err() != nil {
			return nil
		}
		vars := append(slices.Clone(network.Env()), sandbox.EnvVar{Name: "BLOCKSD_SOCKET", Value: settings.Socket})
		if err := sandbox.WriteEnvFile(envFile, vars); err != nil {
			return err
		}
		fmt.Fprintf(out, "\nIn another terminal:\n  set -a; . %s; set +a\n  %s status\nPress Ctrl-C to drain and exit.\n", shellWord(envFile), programName())
		out.run(daemonCtx, d)
		return nil
	}()
	if err != nil {
		stopDaemonNow(stopDaemon, d)
	}
	daemonErr := <-daemonDone
	removeStale(envFile) // nothing in it works now
	return errors.Join(err, daemonErr, closeNetwork())
}

// devSettings are the defaults with the user's variables for logs and limits. Variables about the network do not count:
// dev has its own.
func (a *app) devSettings(o devOptions) (config.Loaded, error) {
	dir, err := a.devStateDir(o.stateDir)
	if err != nil {
		return config.Loaded{}, err
	}
	flags := map[string]any{"state_dir": dir, "plugins.dirs": o.plugins, "projects": o.projects, "log.format": "text"}
	if isTerminal(a.Stdout) {
		flags["log.level"] = a.logLevel("warn") // people read the events instead of the log
	}
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

// tryAgents waits for the agents, then sends one task to each agent that has an example input.
func (a *app) tryAgents(ctx context.Context, d *daemon.Daemon, network *sandbox.Sandbox, settings config.Config, outside []card.Card, out *liveLine) {
	wait, cancel := context.WithTimeout(ctx, devReadyTimeout)
	_ = d.WaitSettled(wait) // the states below show which agents are not online
	cancel()
	if ctx.Err() != nil {
		return
	}
	for _, c := range outside {
		fmt.Fprintf(out, "agent     %s is registered, for an external provider\n", c.AgentName)
	}
	reachable := map[string]bool{}
	for _, ag := range d.Status().Agents {
		reachable[ag.Name] = ag.State == agent.StateOnline
		fmt.Fprintf(out, "agent     %s is %s\n", ag.Name, ag.State)
	}
	for _, r := range d.Status().Reasons {
		fmt.Fprintf(out, "! %s\n", printable(r))
	}
	c, err := client.New(ctx, client.Options{
		CDMURL: network.CDMURL(), PubNubOrigin: network.Addr(), APIKey: network.APIKey(), Getenv: func(string) string { return "" }, // of another network
	})
	if err != nil {
		fmt.Fprintf(out, "! examples cannot be sent: %s\n", err)
		return
	}
	defer c.Close()
	for _, example := range d.Examples() {
		if ctx.Err() != nil {
			return
		}
		if !reachable[example.Agent] {
			continue // the reason is shown above
		}
		// The agent is online before the network knows it, and the network would queue a task that comes in between.
		wait, cancel := context.WithTimeout(ctx, devReadyTimeout)
		_ = network.AwaitInstance(wait, example.Agent) // without an instance the task says what is missing
		cancel()
		fmt.Fprintf(out, "\nexample for %s\n", example.Agent)
		if err := a.sendExample(ctx, c, example, out); err != nil && ctx.Err() == nil {
			fmt.Fprintf(out, "  ! %s\n", printable(err.Error()))
		}
	}
}

func (a *app) sendExample(ctx context.Context, c *client.Client, example daemon.Example, out *liveLine) error {
	ctx, cancel := context.WithTimeoutCause(ctx, exampleTimeout, fmt.Errorf("the example did not end within %s", exampleTimeout))
	defer cancel()
	req := client.Message{Agent: example.Agent}
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
	printer := callPrinter{results: out, notes: out, errors: out, indent: "  "}
	if err := printer.submitted(s, example.Agent); err != nil {
		return err
	}
	if _, err := (watchOptions{}).watch(ctx, s, &printer); err != nil {
		return because(ctx, err)
	}
	return nil
}

// shellWord quotes a path for a shell, if it needs quotes.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// programName is the path with which the user started this program, for commands to copy.
func programName() string {
	if len(os.Args) == 0 {
		return "blocksd"
	}
	return os.Args[0]
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
