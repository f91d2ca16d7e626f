package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/sandbox"
)

// sandboxOptions are the flags of blocksd sandbox; most are members of its configuration.
type sandboxOptions struct {
	sandbox.Config
	agents, envFile string
	skew            time.Duration
	record          int
	logRequests     bool
}

func newSandbox(a *app) *cobra.Command {
	var o sandboxOptions
	cmd := sandboxCommand(&o)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.sandbox(cmd.Context(), o) }
	return cmd
}

// sandboxCommand is the command with its flags.
func sandboxCommand(o *sandboxOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "sandbox", Short: "Run a private Blocks Network on this machine", Args: argsOfUse, Example: "  blocksd sandbox --agents DIR",
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:3001", "loopback address to listen on; port 0 for any free port")
	f.StringVar(&o.agents, "agents", "", "directory of agent cards (*.json) to register")
	f.StringVar(&o.envFile, "env-file", "", "file for the variables that clients need, written once everything works")
	f.StringVar(&o.StateDir, "state-dir", "", "directory that keeps the network between runs; without it, it is in memory only")

	f.DurationVar(&o.skew, "skew", 0, "how far the network's clock is ahead of the machine's; may be negative")
	for _, s := range o.Switches() {
		s.SetDefault()
		switch value := s.Value.(type) {
		case *bool:
			f.BoolVar(value, s.Name, *value, s.Usage)
		case *int:
			f.IntVar(value, s.Name, *value, s.Usage)
		case *int64:
			f.Int64Var(value, s.Name, *value, s.Usage)
		case *time.Duration:
			f.DurationVar(value, s.Name, *value, s.Usage)
		}
	}
	f.IntVar(&o.record, "record", 0, "how many requests to record for "+sandbox.AdminPath+"requests, from the start; 0 for none")
	f.BoolVar(&o.logRequests, "log-requests", false, "log every request, without secrets")
	return cmd
}

// config checks the flags.
func (o sandboxOptions) config() (sandbox.Config, error) {
	for _, s := range o.Switches() {
		if problem := s.Problem(); problem != "" {
			return sandbox.Config{}, usagef("--%s %s: %s", s.Name, s, problem)
		}
	}
	if o.record < 0 {
		return sandbox.Config{}, usagef("--record %d: it must be at least 0", o.record)
	}
	cfg := o.Config
	if cfg.AnnounceMax == 0 {
		cfg.AnnounceMax = -1 // there, 0 stands for the default
	}
	return cfg, nil
}

func (a *app) sandbox(ctx context.Context, o sandboxOptions) error {
	defer surviveBrokenPipes()()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // nobody counts the memory of a network for tests, but its time is that of the tests
	}
	listen, agents, envFile := o.Listen, o.agents, o.envFile
	if err := checkListen(listen); err != nil {
		return err
	}
	cards, err := a.loadCards(agents)
	if err != nil {
		return err
	}
	cfg, err := o.config()
	if err != nil {
		return err
	}
	level := a.logLevel("warn")
	if o.logRequests {
		level = "debug"
	}
	if cfg.Log, _, err = a.newLog(config.Log{Level: level, Format: "text"}, a.Stderr, a.Stderr); err != nil {
		return usage(err)
	}
	cfg.Version = version()
	s, err := sandbox.New(cfg)
	if err != nil {
		return err
	}
	s.SetSkew(o.skew)
	if o.record > 0 {
		s.Faults().Record(true, o.record)
	}
	if envFile != "" {
		removeStale(envFile) // of an earlier network: a script that waits for the file must not read that one
	}
	ctx, cancel := a.interruptible(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	fail := func(err error) error {
		cancel()
		return errors.Join(err, <-done)
	}
	for _, c := range cards {
		if err := s.Register(c); err != nil {
			return fail(err)
		}
	}
	fmt.Fprintf(a.Stdout, "A Blocks Network listens on %s, on this machine only.\n", s.URL())
	for _, c := range cards {
		fmt.Fprintf(a.Stdout, "  agent %s (%s, %s)\n", c.AgentName, c.Blocks().Listing, c.Blocks().BillingMode)
	}
	if envFile != "" {
		if err := sandbox.WriteEnvFile(envFile, s.Env()); err != nil {
			return fail(err)
		}
		defer removeStale(envFile) // nothing in it works now
		fmt.Fprintf(a.Stdout, "Clients and providers need the variables in %s:\n  set -a; . %s; set +a\n", envFile, shell.Word(envFile))
	} else {
		fmt.Fprintln(a.Stdout, "Clients and providers need these variables:")
		for _, v := range s.Env() {
			fmt.Fprintf(a.Stdout, "  export %s=%s\n", v.Name, shell.Word(v.Value))
		}
	}
	fmt.Fprintln(a.Stdout, "Press Ctrl-C to stop it.")
	return <-done
}

// checkListen refuses addresses that other machines can reach: the sandbox trusts every client with one of its keys.
func checkListen(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return usagef("listen on %q: it must be host:port, such as 127.0.0.1:0", listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return usagef("listen on %q: the port must be a number up to 65535, or 0 for any free one", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("listen on %s: the sandbox is for this machine only: use a loopback address such as 127.0.0.1:0", listen)
	}
	return nil
}

// loadCards reads every card of a directory. It warns about a card that is not valid, and leaves it out.
func (a *app) loadCards(dir string) ([]card.Card, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		reason := err
		if p := (*fs.PathError)(nil); errors.As(err, &p) {
			reason = p.Err
		}
		return nil, usagef("read the agent cards in %s: %v: name their directory with --agents", dir, reason)
	}
	var cards []card.Card
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		c, err := card.Load(filepath.Join(dir, e.Name()))
		if err != nil {
			fmt.Fprintf(a.Stderr, "warning: %s\n", err)
			continue
		}
		if i := slices.IndexFunc(cards, func(o card.Card) bool { return o.AgentName == c.AgentName }); i >= 0 {
			fmt.Fprintf(a.Stderr, "warning: agent card %s is not registered: another card has the same agent name, %s\n", filepath.Join(dir, e.Name()), c.AgentName)
			continue
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// logLevel is the level that the environment sets, or fallback.
func (a *app) logLevel(fallback string) string {
	if a.getenv("LOG_LEVEL") == "" && a.getenv("BLOCKSD_LOG__LEVEL") == "" {
		return fallback
	}
	c, _, err := config.Load(config.Sources{Environ: []string{"LOG_LEVEL=" + a.getenv("LOG_LEVEL"), "BLOCKSD_LOG__LEVEL=" + a.getenv("BLOCKSD_LOG__LEVEL")}})
	if err != nil {
		return fallback
	}
	return c.Log.Level
}
