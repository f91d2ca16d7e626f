package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// checkTimeout bounds handler check as a whole; each of its steps has a much shorter deadline.
const checkTimeout = 2 * time.Minute

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

func newHandlerPin(a *app) *cobra.Command {
	var sum string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "pin HANDLER", Short: "Let a handler run only with the checksum that its file has now", Args: argsOfUse,
		Long: "Let a handler run only with the checksum that its file has now, or with --sha256. The command writes the checksum to the\n" +
			"file pins in the state directory; a running daemon notices. It does not start a file with another checksum, and keeps what\n" +
			"already runs.",
	}
	f := cmd.Flags()
	flags := newSettingFlags(f)
	flags.text("state_dir", "state-dir", "state directory of the daemon")
	flags.plugins()
	f.StringVar(&sum, "sha256", "", "checksum in hexadecimal, instead of the one of the file")
	f.BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c, _, err := config.Load(flags.sources(a.Env))
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
				s.Reason += "; or name the handler's directory with --plugins"
			}
			return "", fmt.Errorf("pin handler %s: %s", name, s.Reason)
		}
	}
	return "", fmt.Errorf("pin handler %s: there is no program of that name in %s: name its directory with --plugins", name, strings.Join(c.Plugins.Dirs, ", "))
}

func newHandlerCheck(a *app) *cobra.Command {
	var asJSON bool
	var environment []string
	cmd := &cobra.Command{
		Use: "check BINARY [ARGUMENT]…", Short: "Start a handler program on its own and report on it",
		Long: "Start a handler program as the daemon would, ask it to describe itself, check its cards and its health, and stop it. This\n" +
			"needs no daemon and no network. A directory is checked like a plugins directory: each handler in it. Exits with 1 when a\n" +
			"program cannot be a handler, or when something is wrong with it.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs an argument: use blocksd handler check BINARY", commandName(cmd))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.Flags().StringArrayVar(&environment, "env", nil, "name of an environment variable to pass to it; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		ctx, cancel = context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		log, _, err := a.newLog(config.Log{Level: a.logLevel("error"), Format: "text"}, a.Stderr, a.Stderr)
		if err != nil {
			return usage(err)
		}
		check := func(path string) (supervisor.Report, error) {
			return supervisor.CheckProgram(ctx, path, args[1:], environment, log)
		}
		if info, err := os.Stat(args[0]); err == nil && info.IsDir() {
			return because(ctx, a.checkDirectory(args[0], check, asJSON))
		}
		r, err := check(args[0])
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

// checkDirectory checks each handler that the daemon would find in a plugins directory.
func (a *app) checkDirectory(dir string, check func(path string) (supervisor.Report, error), asJSON bool) error {
	scanner := catalog.Scanner{WarnOnly: true} // what is wrong with owners is reported, and the programs are checked all the same
	found, skipped := scanner.Scan([]string{dir})
	reports := []reportForm{}
	failed := false
	for _, f := range found {
		r, err := check(filepath.Join(f.Dir, f.Name)) // a link has its card beside itself
		if err != nil {
			r = supervisor.Report{Path: f.Path, SHA256: f.SHA256, Problems: []string{err.Error()}}
		}
		failed = failed || len(r.Problems) > 0
		reports = append(reports, formOfReport(r))
		if asJSON {
			continue
		}
		if len(reports) > 1 {
			fmt.Fprintln(a.Stdout)
		}
		if err := printReport(a.Stdout, r); err != nil {
			return err
		}
	}
	if asJSON {
		if err := a.printJSON(reports); err != nil {
			return err
		}
	}
	for _, s := range skipped {
		fmt.Fprintln(a.Stderr, "blocksd: "+printable(s.Reason))
		failed = true
	}
	switch {
	case failed:
		return &exitError{code: exitFailure, err: fmt.Errorf("%s has problems", dir), silent: true}
	case len(found) == 0:
		return fmt.Errorf("check the handlers in %s: there is no program in it", dir)
	}
	return nil
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
	Card       string      `json:"card,omitempty"` // path of the file beside it
	Problems   []string    `json:"problems"`
	Notes      []string    `json:"notes"`
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
		Card: r.CardPath, Problems: append([]string{}, r.Problems...), Notes: append([]string{}, r.Notes...),
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
	rows := [][]string{{"program", r.Path}, {"sha256", r.SHA256}}
	started := r.Start > 0
	if started {
		rows = append(rows, []string{"ready after", r.Start.Round(time.Millisecond).String()}, []string{"ended after", r.Stop.Round(time.Millisecond).String()})
	}
	if r.Described {
		rows = append(rows, []string{"handler", strings.TrimSpace(r.Name + " " + r.Version)}, []string{"sdk", r.SDK},
			[]string{"supports cancel", yes(r.Cancel)}, []string{"idempotent", yes(r.Idempotent)})
	} else if started {
		rows = append(rows, []string{"describes itself", "no"})
	}
	if r.CardPath != "" {
		rows = append(rows, []string{"card", r.CardPath})
	}
	for _, c := range r.Agents {
		rows = append(rows, []string{"agent", fmt.Sprintf("%s %s, concurrency %d", c.AgentName, c.Version, c.Concurrency)})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note: "+printable(n))
	}
	for _, p := range r.Problems {
		fmt.Fprintln(w, "! "+printable(p))
	}
	return nil
}
