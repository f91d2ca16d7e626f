package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// checkTimeout bounds handler check: each step has a deadline of its own, well below.
const checkTimeout = 2 * time.Minute

func newRestart(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "restart HANDLER", Short: "Replace the processes of a handler without losing a task", Args: exactly(1, "blocksd restart HANDLER"),
		Long: "Replace the processes of a handler: new ones are started beside the old ones and take the tasks when they are ready; the old\n" +
			"ones finish theirs. A handler that is not ready is tried at once, in quarantine too. Returns when the new ones take the tasks.",
	}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, args []string) error {
		if err := c.RestartHandler(ctx, args[0]); err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(struct {
				Handler   string `json:"handler"`
				Restarted bool   `json:"restarted"`
			}{args[0], true})
		}
		_, err := fmt.Fprintf(a.Stdout, "handler %s was restarted\n", args[0])
		return err
	})
}

func newHandler(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "handler", Short: "Check, pin and roll back handler programs", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(newHandlerCheck(a), newHandlerPin(a), newHandlerRollback(a))
	return cmd
}

func newHandlerRollback(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rollback HANDLER", Short: "Go back to the program that a handler ran before", Args: exactly(1, "blocksd handler rollback HANDLER"),
		Long: "Go back to the program that a handler ran before, without losing a task. It stays until the file of the handler changes;\n" +
			"once more goes back to where it came from.",
	}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, args []string) error {
		sum, err := c.RollbackHandler(ctx, args[0])
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(struct {
				Handler string `json:"handler"`
				SHA256  string `json:"sha256"`
			}{args[0], sum})
		}
		_, err = fmt.Fprintf(a.Stdout, "handler %s runs %s until its file changes\n", args[0], sum)
		return err
	})
}

func newHandlerPin(a *app) *cobra.Command {
	var file, stateDir, sum string
	var plugins []string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "pin HANDLER", Short: "Let a handler run only with the checksum that its file has now", Args: exactly(1, "blocksd handler pin HANDLER"),
		Long: "Let a handler run only with the checksum that its file has now, or with --sha256. The checksum is written to the file pins in\n" +
			"the state directory, which a running daemon follows. A file with another checksum is not started: what runs stays.",
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file (default "+config.DefaultFile+" if it exists)")
	f.StringVar(&stateDir, "state-dir", "", "state directory of the daemon")
	f.StringArrayVar(&plugins, "plugins", nil, "directory of handler programs; may be repeated")
	f.StringVar(&sum, "sha256", "", "the checksum, in hexadecimal, instead of that of the file")
	f.BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		flags := map[string]any{}
		if stateDir != "" {
			flags["state_dir"] = stateDir
		}
		if len(plugins) > 0 {
			flags["plugins.dirs"] = plugins
		}
		c, _, err := config.Load(config.Sources{File: config.FindFile(file), Environ: a.Env, Flags: flags})
		if err != nil {
			return err
		}
		sum := strings.ToLower(sum)
		if sum == "" {
			if sum, err = checksumOf(c, args[0]); err != nil {
				return usage(err)
			}
		} else if !catalog.IsChecksum(sum) {
			return usagef("--sha256 must be 64 hexadecimal digits, not %q", sum)
		}
		path := filepath.Join(c.StateDir, catalog.PinsFile)
		if err := catalog.Pin(path, args[0], sum); err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(struct {
				Handler string `json:"handler"`
				SHA256  string `json:"sha256"`
				File    string `json:"file"`
			}{args[0], sum, path})
		}
		_, err = fmt.Fprintf(a.Stdout, "handler %s is pinned to %s in %s\n", args[0], sum, path)
		return err
	}
	return cmd
}

// checksumOf finds the file of a handler as the daemon does.
func checksumOf(c config.Config, name string) (string, error) {
	if i := slices.IndexFunc(c.Handlers, func(h config.Handler) bool { return h.Name == name && h.Path != "" }); i >= 0 {
		return catalog.Hash(c.Handlers[i].Path)
	}
	found, skipped := new(catalog.Scanner).Scan(c.Plugins.Dirs)
	for _, f := range found {
		if f.Name == name {
			return f.SHA256, nil
		}
	}
	for _, s := range skipped {
		if s.Name == name || s.Name == "" {
			if s.Name == "" {
				s.Reason += "; or name the directory of the handler with --plugins"
			}
			return "", fmt.Errorf("pin handler %s: %s", name, s.Reason)
		}
	}
	return "", fmt.Errorf("pin handler %s: no program of that name is in %s: name its directory with --plugins", name, strings.Join(c.Plugins.Dirs, ", "))
}

func newHandlerCheck(a *app) *cobra.Command {
	var asJSON bool
	var environment []string
	cmd := &cobra.Command{
		Use: "check BINARY [ARGUMENT]…", Short: "Start a handler program by itself and say what it is",
		Long: "Start a handler program as the daemon would, have it describe itself, check its cards and its health, and stop it. Needs no\n" +
			"daemon and no network. Exits with 1 when the program cannot be a handler, or when something is wrong with it.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs an argument: use blocksd handler check BINARY", commandName(cmd))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.Flags().StringArrayVar(&environment, "env", nil, "name of an environment variable to hand on; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		ctx, cancel = context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		log, err := a.newLog(config.Log{Level: a.logLevel("error"), Format: "text"}, a.Stderr, a.Stderr)
		if err != nil {
			return usage(err)
		}
		r, err := supervisor.CheckProgram(ctx, args[0], args[1:], environment, log)
		if err != nil {
			return because(ctx, err)
		}
		if asJSON {
			err = a.printJSON(formOfReport(r))
		} else {
			err = printReport(a.Stdout, r)
		}
		if err == nil && len(r.Problems) > 0 {
			err = &exitError{code: exitFailure, err: fmt.Errorf("%s has problems", r.Path), silent: true}
		}
		return err
	}
	return cmd
}

type reportForm struct {
	Path       string      `json:"path"`
	SHA256     string      `json:"sha256"`
	Name       string      `json:"name"`
	Version    string      `json:"version"`
	SDK        string      `json:"sdk"`
	Described  bool        `json:"described"`
	Cancel     bool        `json:"cancel"`
	Idempotent bool        `json:"idempotent"`
	Agents     []agentName `json:"agents"`
	StartMS    float64     `json:"startMs"`
	StopMS     float64     `json:"stopMs"`
	Problems   []string    `json:"problems"`
}

type agentName struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Concurrency int    `json:"concurrency"`
}

func formOfReport(r supervisor.Report) reportForm {
	f := reportForm{
		Path: r.Path, SHA256: r.SHA256, Name: r.Name, Version: r.Version, SDK: r.SDK, Described: r.Described, Cancel: r.Cancel, Idempotent: r.Idempotent,
		Agents: []agentName{}, StartMS: float64(r.Start.Microseconds()) / 1000, StopMS: float64(r.Stop.Microseconds()) / 1000,
		Problems: append([]string{}, r.Problems...),
	}
	for _, c := range r.Agents {
		f.Agents = append(f.Agents, agentName{c.AgentName, c.Version, c.Concurrency})
	}
	return f
}

func printReport(w io.Writer, r supervisor.Report) error {
	yes := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	rows := [][]string{
		{"program", r.Path}, {"sha256", r.SHA256},
		{"ready after", r.Start.Round(time.Millisecond).String()}, {"ended after", r.Stop.Round(time.Millisecond).String()},
	}
	if r.Described {
		rows = append(rows, []string{"handler", strings.TrimSpace(r.Name + " " + r.Version)}, []string{"sdk", r.SDK},
			[]string{"understands cancel", yes(r.Cancel)}, []string{"may be repeated", yes(r.Idempotent)})
	} else {
		rows = append(rows, []string{"describes itself", "no: it needs a card file"})
	}
	for _, c := range r.Agents {
		rows = append(rows, []string{"agent", fmt.Sprintf("%s %s, %d at once", c.AgentName, c.Version, c.Concurrency)})
	}
	if err := table(w, "", rows); err != nil {
		return err
	}
	for _, p := range r.Problems {
		fmt.Fprintln(w, "! "+printable(p))
	}
	return nil
}
