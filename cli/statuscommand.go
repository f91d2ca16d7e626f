package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/internal/retry"
)

const statusHelp = `Show whether the daemon is ready, its agents, handlers and tasks.

With --wait READY the command returns when the daemon is ready; with --wait DRAINED, when it is drained and every agent has left
the network. A daemon that does not answer yet is waited for, too. If that takes longer than --timeout, the command says why
and ends with status 6.`

const (
	// watchEvery is the time between two looks of status --watch.
	watchEvery = time.Second
	// waitEvery is the time between two looks of status --wait.
	waitEvery = 200 * time.Millisecond
	// lastLook is how long the look may take that comes when the time of status --wait is over: a daemon that stands still for a
	// moment answers after that.
	lastLook = 5 * time.Second
	// waitTimeout is how long status --wait waits if nothing else is said.
	waitTimeout = time.Minute
)

// What status --wait can wait for.
const (
	waitReady   = "READY"
	waitDrained = "DRAINED"
)

type statusOptions struct {
	socket      string
	json, watch bool
	wait        string
	timeout     time.Duration
}

func newStatus(a *app) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{Use: "status", Short: "Show whether the daemon is ready, its agents, handlers and tasks", Long: statusHelp, Args: argsOfUse}
	f := cmd.Flags()
	a.addSocketFlag(cmd, &o.socket)
	f.BoolVar(&o.json, "json", false, "machine-readable output")
	f.BoolVarP(&o.watch, "watch", "w", false, "show it again every second until Ctrl-C")
	f.StringVar(&o.wait, "wait", "", "wait until the daemon is READY or DRAINED, then show it")
	f.DurationVar(&o.timeout, "timeout", waitTimeout, "with --wait: how long; 0 for no limit")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		given := o.wait
		o.wait = strings.ToUpper(o.wait)
		switch {
		case o.wait != "" && o.wait != waitReady && o.wait != waitDrained:
			return usagef("status: --wait must be READY or DRAINED, not %q", given)
		case o.wait != "" && o.watch:
			return usagef("status: --wait and --watch cannot be combined")
		case o.wait == "" && cmd.Flags().Changed("timeout"):
			return usagef("status: --timeout needs --wait")
		case o.timeout < 0:
			return usagef("status: --timeout must not be negative, but is %s", o.timeout)
		}
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		switch {
		case o.wait != "":
			return because(ctx, a.waitStatus(ctx, o))
		case o.watch:
			return a.watchStatus(ctx, o)
		}
		s, err := a.askStatus(ctx, o.socket)
		if err != nil {
			return because(ctx, err)
		}
		return a.showStatus(a.Stdout, s, o.json)
	}
	return cmd
}

func (a *app) askStatus(ctx context.Context, socket string) (statusForm, error) {
	c, err := a.dialDaemon(ctx, socket)
	if err != nil {
		return statusForm{}, err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	return formOfStatus(s), err
}

func (a *app) showStatus(w io.Writer, s statusForm, asJSON bool) error {
	if asJSON {
		return a.printJSON(s)
	}
	return a.screen().status(w, s, time.Now())
}

// waitStatus returns when the daemon is what o waits for. An error with status 6 says why it is not in time.
func (a *app) waitStatus(ctx context.Context, o statusOptions) error {
	limited, cancel := ctx, context.CancelFunc(func() {})
	if o.timeout > 0 {
		limited, cancel = context.WithTimeout(ctx, o.timeout)
	}
	defer cancel()
	var last error
	look := func(ctx context.Context) (s statusForm, ok bool) {
		s, err := a.askStatus(ctx, o.socket)
		switch {
		case err == nil && reached(s, o.wait):
			return s, true
		case err == nil:
			last = errors.New(whyNot(s, o.wait))
		case last == nil || ctx.Err() == nil:
			last = err
		}
		return s, false
	}
	for {
		if s, ok := look(limited); ok {
			return a.showStatus(a.Stdout, s, o.json)
		}
		if retry.Pause(limited, waitEvery) != nil {
			break
		}
	}
	// The time may have passed while the machine stood still, and before there was an answer.
	after, stop := context.WithTimeout(ctx, lastLook)
	defer stop()
	if s, ok := look(after); ok {
		return a.showStatus(a.Stdout, s, o.json)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &exitError{code: exitTimedOut, err: fmt.Errorf("wait for %s: it did not come within %s: %w", o.wait, o.timeout, last)}
}

func reached(s statusForm, wanted string) bool {
	if wanted == waitReady {
		return s.Ready
	}
	return isDrained(s) && !slices.ContainsFunc(s.Agents, func(a agentForm) bool { return a.State != "offline" && a.State != "failed" })
}

func isDrained(s statusForm) bool {
	return slices.ContainsFunc(s.Conditions, func(c conditionForm) bool { return c.Code == string(roster.Drained) })
}

// whyNot is the first reason why the daemon is not what is waited for.
func whyNot(s statusForm, wanted string) string {
	switch {
	case wanted == waitDrained && !isDrained(s):
		return "nobody has asked the daemon to drain: blocksd drain"
	case wanted == waitDrained:
		return "agents are still on the network: see blocksd tasks"
	case len(s.Reasons) > 0:
		return s.Reasons[0]
	}
	return "no reason is known"
}

// What takes a screen from one picture to the next: to the first column, a line without its rest, a screen without its rest.
const (
	cursorHome = "\x1b[H"
	eraseRest  = "\x1b[K"
	eraseBelow = "\x1b[J"
	clearAll   = "\x1b[2J"
)

// watchStatus shows the status again and again. On a terminal the next picture takes the place of the last.
func (a *app) watchStatus(ctx context.Context, o statusOptions) error {
	terminal := isTerminal(a.Stdout) && !o.json
	if terminal {
		if _, err := io.WriteString(a.Stdout, clearAll); err != nil {
			return err
		}
	}
	for first := true; ; first = false {
		var picture bytes.Buffer
		s, err := a.askStatus(ctx, o.socket)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is the normal end
		case err != nil && first:
			return err
		case err != nil: // it may come back
			fmt.Fprintln(&picture, printable(err.Error()))
		case o.json:
			if err := a.printJSON(s); err != nil {
				return err
			}
		default:
			_ = a.showStatus(&picture, s, false) // a buffer takes everything
		}
		text := picture.String()
		if terminal {
			text = cursorHome + strings.ReplaceAll(text, "\n", eraseRest+"\n") + eraseBelow
		} else if !first && !o.json {
			text = "\n" + text
		}
		if _, err := io.WriteString(a.Stdout, text); err != nil {
			return err
		}
		if retry.Pause(ctx, watchEvery) != nil {
			return nil
		}
	}
}
