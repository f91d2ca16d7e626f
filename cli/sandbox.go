package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
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
		Use: "sandbox", Short: "Run a Blocks Network of your own on this machine", Args: exactly(0, "blocksd sandbox [--agents DIR]"),
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:3001", "loopback address to listen on; port 0 for any free one")
	f.StringVar(&o.agents, "agents", "", "directory of agent cards (*.json) to register")
	f.StringVar(&o.envFile, "env-file", "", "file for the variables that clients need, written once everything works")
	f.StringVar(&o.StateDir, "state-dir", "", "directory in which the network is kept from one run to the next; without it everything is forgotten at the end")

	f.DurationVar(&o.CancelBudget, "cancel-budget", 30*time.Second, "how long an instance has to end a canceled task before the network does")
	f.DurationVar(&o.SafetyNet, "safety-net", 60*time.Second, "how long after the loss of its instance a running task fails")
	f.DurationVar(&o.SlotFallback, "slot-fallback", time.Second, "after how long the slot of an ended task is free although its instance has not said so")
	f.DurationVar(&o.StreamRevokeDelay, "stream-revoke-delay", 60*time.Second, "how long after the end of a task its consumer can read its streams")
	f.DurationVar(&o.ConsumerTokenTTL, "consumer-token-ttl", 60*time.Second, "life of a consumer's access token")
	f.DurationVar(&o.AgentTokenTTL, "agent-token-ttl", 15*time.Minute, "life of an agent's access token")
	f.DurationVar(&o.ControlTokenTTL, "control-token-ttl", 24*time.Hour, "life of the token with which an instance hears of its tasks, 1m to 720h")
	f.DurationVar(&o.skew, "skew", 0, "how far the network's clock is ahead of the machine's; may be negative")
	f.Int64Var(&o.MaxFileBytes, "max-file-bytes", wire.MaxArtifactBytes, "largest file that is taken")
	f.IntVar(&o.KeepFinished, "keep-finished", 10_000, "how many finished tasks stay readable")
	f.DurationVar(&o.KeepFinishedFor, "keep-finished-for", 24*time.Hour, "how long a finished task stays readable")
	f.BoolVar(&o.Enterprise, "enterprise", false, "be an enterprise deployment: the registry is for members only, and no agent is paid")
	f.BoolVar(&o.NoWriterRead, "no-writer-read", false, "take from a task's write token the right to read the task's channel")
	f.BoolVar(&o.NoAgentGetTask, "no-agent-get-task", false, "take from agents the right to look up their own tasks")

	f.DurationVar(&o.HoldPoll, "hold-poll", 280*time.Second, "how long a poll is held when nothing comes; clients give up after 310s")
	f.IntVar(&o.RingSize, "ring-size", 100, "how many messages of a channel can be caught up with")
	f.BoolVar(&o.Lossless, "lossless", false, "let all messages of a channel be caught up with, as far as --history-bytes reach")
	f.Int64Var(&o.HistoryBytes, "history-bytes", 256<<20, "how much is kept of the messages of each keyset; the oldest go first")
	f.IntVar(&o.AnnounceMax, "announce-max", 20, "occupants up to whom joins and leaves are announced one by one, on the plain keysets; 0 for never")
	f.DurationVar(&o.PresenceInterval, "presence-interval", 10*time.Second, "time between the presence events of a channel with more occupants than that")
	f.BoolVar(&o.DeliverFire, "deliver-fire", false, "deliver what is neither stored nor replicated to subscribers, too")
	f.BoolVar(&o.AnySignature, "any-signature", false, "take every signature with a secret key for a good one")
	f.IntVar(&o.PublishRate, "publish-rate", 0, "how many messages each channel takes in a second before clients get 429; 0 for any number")
	f.IntVar(&o.PublishQuota, "publish-quota", 0, "how many messages each keyset takes in all before clients get 402; 0 for any number")

	f.IntVar(&o.record, "record", 0, "how many requests are remembered for "+sandbox.AdminPath+"requests from the start on; 0 for none")
	f.BoolVar(&o.logRequests, "log-requests", false, "log every request, without its secrets")
	return cmd
}

// Limits of what the flags may say.
const (
	minControlToken, maxControlToken = time.Minute, 720 * time.Hour // of a PubNub token
	maxHoldPoll                      = 310 * time.Second            // then clients give up
)

// config checks the flags.
func (o sandboxOptions) config() (sandbox.Config, error) {
	for _, d := range [...]struct {
		flag  string
		value time.Duration
	}{
		{"cancel-budget", o.CancelBudget}, {"safety-net", o.SafetyNet}, {"slot-fallback", o.SlotFallback}, {"stream-revoke-delay", o.StreamRevokeDelay},
		{"consumer-token-ttl", o.ConsumerTokenTTL}, {"agent-token-ttl", o.AgentTokenTTL}, {"keep-finished-for", o.KeepFinishedFor},
		{"hold-poll", o.HoldPoll}, {"presence-interval", o.PresenceInterval},
	} {
		if d.value <= 0 {
			return sandbox.Config{}, usagef("--%s %s: it must be more than 0", d.flag, d.value)
		}
	}
	for _, n := range [...]struct {
		flag         string
		value, least int64
	}{
		{"max-file-bytes", o.MaxFileBytes, 1}, {"keep-finished", int64(o.KeepFinished), 1}, {"ring-size", int64(o.RingSize), 1},
		{"history-bytes", o.HistoryBytes, 1}, {"announce-max", int64(o.AnnounceMax), 0}, {"publish-rate", int64(o.PublishRate), 0},
		{"publish-quota", int64(o.PublishQuota), 0}, {"record", int64(o.record), 0},
	} {
		if n.value < n.least {
			return sandbox.Config{}, usagef("--%s %d: it must be at least %d", n.flag, n.value, n.least)
		}
	}
	if o.ControlTokenTTL < minControlToken || o.ControlTokenTTL > maxControlToken {
		return sandbox.Config{}, usagef("--control-token-ttl %s: it must be between %s and %s", o.ControlTokenTTL, minControlToken, maxControlToken)
	}
	if o.HoldPoll >= maxHoldPoll {
		return sandbox.Config{}, usagef("--hold-poll %s: it must be less than %s, after which clients give up", o.HoldPoll, maxHoldPoll)
	}
	cfg := o.Config
	if cfg.AnnounceMax == 0 {
		cfg.AnnounceMax = -1 // where 0 is the default
	}
	return cfg, nil
}

func (a *app) sandbox(ctx context.Context, o sandboxOptions) error {
	defer surviveBrokenPipes()()
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
	if cfg.Log, err = a.newLog(config.Log{Level: level, Format: "text"}, a.Stderr, a.Stderr); err != nil {
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
		removeStale(envFile) // of a network that is gone: whoever waits for the file must not take that one
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
	fmt.Fprintf(a.Stdout, "A Blocks Network listens on %s; nothing leaves this machine.\n", s.URL())
	for _, c := range cards {
		fmt.Fprintf(a.Stdout, "  agent %s (%s, %s)\n", c.AgentName, c.Blocks().Listing, c.Blocks().BillingMode)
	}
	if envFile != "" {
		if err := sandbox.WriteEnvFile(envFile, s.Env()); err != nil {
			return fail(err)
		}
		defer removeStale(envFile) // nothing in it works any more
		fmt.Fprintf(a.Stdout, "Clients and providers reach it with the variables in %s:\n  set -a; . %s; set +a\n", envFile, envFile)
	} else {
		fmt.Fprintln(a.Stdout, "Clients and providers reach it with these variables:")
		for _, v := range s.Env() {
			fmt.Fprintf(a.Stdout, "  export %s=%s\n", v.Name, v.Value)
		}
	}
	fmt.Fprintln(a.Stdout, "Ctrl-C ends it.")
	return <-done
}

// checkListen refuses addresses that others could reach: the sandbox trusts everybody who knows its keys.
func checkListen(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return usagef("listen on %q: it must be host:port, such as 127.0.0.1:0", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("listen on %s: the sandbox is for this machine alone: use a loopback address such as 127.0.0.1:0", listen)
	}
	return nil
}

// loadCards reads every card of a directory. A card that is not valid is told and left out.
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
			fmt.Fprintf(a.Stderr, "warning: agent card %s is not registered: another card names agent %s too\n", filepath.Join(dir, e.Name()), c.AgentName)
			continue
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// logLevel is LOG_LEVEL if it names a level, else fallback.
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
