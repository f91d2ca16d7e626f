package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/runners"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/conformance"
)

// checkTimeout bounds handler check as a whole; each of its steps has a much shorter deadline.
const checkTimeout = 10 * time.Minute

// handlerCheck is one run of the command.
type handlerCheck struct {
	*app
	ctx                  context.Context
	options              conformance.Options
	args, environment    []string
	stateDir, config     string
	asJSON, withoutTasks bool
}

func newHandlerCheck(a *app) *cobra.Command {
	c := handlerCheck{app: a}
	cmd := &cobra.Command{
		Use: "check BINARY|DIR [ARGUMENT]…", Short: "Start a handler on its own and see whether it keeps the contract",
		Long: "Start a handler as the daemon would and see whether it keeps the contract: its description, its cards, the task of the\n" +
			"card's examples, as many tasks at once as the card allows, cancellation, odd and large inputs, its health, its end. It\n" +
			"stands behind the same walls. This needs no daemon and no network. A directory with an agent-card.json is a project; any other is a plugins directory, and\n" +
			"each handler in it is checked. Exits with 1 when something is wrong.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs an argument: use blocksd handler check BINARY, or a directory", commandName(cmd))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&c.asJSON, "json", false, "machine-readable output")
	f.StringArrayVar(&c.environment, "env", nil, "name of an environment variable to pass to it; may be repeated")
	f.BoolVar(&c.withoutTasks, "without-tasks", false, "only start and stop it, for a handler whose tasks cost something")
	f.StringVar(&c.stateDir, "state-dir", "", "where what runs projects is unpacked (default: that of blocksd dev)")
	f.StringVar(&c.config, "config", "", "configuration file with the limits of the handler (default: those without a configuration)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		ctx, cancel = context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		log, _, err := a.newLog(config.Log{Level: a.logLevel("error"), Format: "text"}, a.Stderr, a.Stderr)
		if err != nil {
			return usage(err)
		}
		run := c
		run.ctx, run.args = ctx, args[1:]
		run.options = conformance.Options{Log: log, WithoutTasks: c.withoutTasks}
		release, err := run.buildWalls()
		if err != nil {
			return err
		}
		defer release()
		return because(ctx, run.check(args[0]))
	}
	return cmd
}

func (c handlerCheck) check(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if _, err := os.Lstat(filepath.Join(path, catalog.CardFile)); err == nil {
			return c.checkProject(path)
		}
		return c.checkDirectory(path)
	}
	return c.checkOne(conformance.Program{Path: path, Args: c.args, Environment: c.environment})
}

// checkOne reports on one handler.
func (c handlerCheck) checkOne(p conformance.Program) error {
	r, err := conformance.Check(c.ctx, p, c.options)
	if err != nil {
		return err
	}
	if c.asJSON {
		err = c.printJSON(formOfReport(r))
	} else {
		err = printReport(c.Stdout, r)
	}
	if err == nil && len(r.Problems) > 0 {
		err = &exitError{code: exitFailure, err: fmt.Errorf("%s has problems", r.Path), silent: true}
	}
	return err
}

// checkProject checks the handler of a project.
func (c handlerCheck) checkProject(dir string) error {
	state, err := c.devStateDir(c.stateDir)
	if err != nil {
		return err
	}
	r := runners.Runners{Dir: filepath.Join(state, runners.DirName)}
	if err := r.Unpack(); err != nil {
		return err
	}
	scanner := catalog.Scanner{WarnOnly: true}
	found, skipped := scanner.Projects([]string{dir}, r.All())
	var untrusted error
	for _, s := range skipped {
		if !s.Used {
			return errors.New(s.Reason)
		}
		fmt.Fprintln(c.Stderr, "blocksd: "+printable(s.Reason))
		untrusted = &exitError{code: exitFailure, err: fmt.Errorf("%s has problems", dir), silent: true}
	}
	p := conformance.OfProject(found[0])
	p.Args, p.Environment = append(p.Args, c.args...), c.environment
	if err := c.checkOne(p); err != nil {
		return err
	}
	return untrusted
}

// checkDirectory checks each handler that the daemon would find in a plugins directory.
func (c handlerCheck) checkDirectory(dir string) error {
	scanner := catalog.Scanner{WarnOnly: true} // what is wrong with owners is reported, and the programs are checked all the same
	found, skipped := scanner.Scan([]string{dir})
	reports := []reportForm{}
	failed := false
	for _, f := range found {
		// A link has its card beside itself.
		r, err := conformance.Check(c.ctx, conformance.Program{Path: filepath.Join(f.Dir, f.Name), Args: c.args, Environment: c.environment}, c.options)
		if err != nil {
			r = conformance.Report{Path: f.Path, SHA256: f.SHA256, Problems: []string{err.Error()}}
		}
		failed = failed || len(r.Problems) > 0
		reports = append(reports, formOfReport(r))
		if c.asJSON {
			continue
		}
		if len(reports) > 1 {
			fmt.Fprintln(c.Stdout)
		}
		if err := printReport(c.Stdout, r); err != nil {
			return err
		}
	}
	if c.asJSON {
		if err := c.printJSON(reports); err != nil {
			return err
		}
	}
	for _, s := range skipped {
		fmt.Fprintln(c.Stderr, "blocksd: "+printable(s.Reason))
		failed = true
	}
	switch {
	case failed:
		return &exitError{code: exitFailure, err: fmt.Errorf("%s has problems", dir), silent: true}
	case len(found) == 0:
		return fmt.Errorf("check the handlers in %s: there is no program in it, and no %s", dir, catalog.CardFile)
	}
	return nil
}

type reportForm struct {
	Path       string       `json:"path"`
	SHA256     string       `json:"sha256"`
	Name       string       `json:"name"`
	Version    string       `json:"version"`
	SDK        string       `json:"sdk"`
	Described  bool         `json:"described"`
	Cancel     bool         `json:"cancel"`
	Idempotent bool         `json:"idempotent"`
	Agents     []agentName  `json:"agents"`
	StartMS    float64      `json:"startMs"`
	StopMS     float64      `json:"stopMs"`
	Card       string       `json:"card,omitempty"` // path of the file beside it
	Isolation  string       `json:"isolation"`
	Open       []string     `json:"isolationOpen"`
	Checks     []resultForm `json:"checks"`
	Problems   []string     `json:"problems"`
	Notes      []string     `json:"notes"`
}

type agentName struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Concurrency int    `json:"concurrency"`
}

// resultForm is like those of blocksd doctor.
type resultForm struct {
	Check  string  `json:"check"`
	State  string  `json:"state"`
	Detail string  `json:"detail"`
	MS     float64 `json:"ms"`
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func formOfReport(r conformance.Report) reportForm {
	f := reportForm{
		Path: r.Path, SHA256: r.SHA256, Name: r.Name, Version: r.Version, SDK: r.SDK, Described: r.Described, Cancel: r.Cancel, Idempotent: r.Idempotent,
		Agents: []agentName{}, StartMS: milliseconds(r.Start), StopMS: milliseconds(r.Stop), Card: r.CardPath, Checks: []resultForm{},
		Isolation: r.Isolation, Open: append([]string{}, r.IsolationOpen...), Problems: append([]string{}, r.Problems...), Notes: append([]string{}, r.Notes...),
	}
	for _, c := range r.Agents {
		f.Agents = append(f.Agents, agentName{c.AgentName, c.Version, c.Concurrency})
	}
	for _, c := range r.Results {
		f.Checks = append(f.Checks, resultForm{c.Check, string(c.State), c.Detail, milliseconds(c.Took)})
	}
	return f
}

func printReport(w io.Writer, r conformance.Report) error {
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
	if r.Isolation != "" {
		rows = append(rows, []string{"isolation", strings.Join(append([]string{r.Isolation}, r.IsolationOpen...), ": ")})
	}
	for _, c := range r.Agents {
		rows = append(rows, []string{"agent", fmt.Sprintf("%s %s, concurrency %d", c.AgentName, c.Version, c.Concurrency)})
	}
	for _, c := range r.Results {
		text := string(c.State)
		if c.Detail != "" && c.State != conformance.Fail { // a problem is a line of its own
			text += ": " + c.Detail
		}
		if c.Took >= time.Millisecond {
			text += fmt.Sprintf(" (%v)", c.Took.Round(time.Millisecond))
		}
		rows = append(rows, []string{"check " + c.Check, text})
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
