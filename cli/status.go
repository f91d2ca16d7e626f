package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/control"
)

func newStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show whether the daemon is ready, its agents, handlers and tasks", Args: exactly(0, "blocksd status [--json]")}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, _ []string) error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if form := formOfStatus(s); asJSON {
			return a.printJSON(form)
		} else {
			return printStatus(a.Stdout, form, time.Now())
		}
	})
}

// printStatus is the form for people.
func printStatus(w io.Writer, s statusForm, now time.Time) error {
	ready := "ready"
	if !s.Ready {
		ready = "not ready"
	}
	t := s.Tasks
	fmt.Fprintf(w, "blocksd %s, pid %d: %s\n", printable(s.Version), s.PID, ready)
	fmt.Fprintf(w, "tasks: %d running, %d accepted, %d completed, %d failed, %d canceled", t.Running, t.Accepted, t.Completed, t.Failed, t.Canceled)
	if t.Outbox > 0 {
		fmt.Fprintf(w, ", %d outcomes not delivered yet", t.Outbox)
	}
	fmt.Fprintln(w)
	if len(s.Agents) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"AGENT", "STATE", "TASKS", "BILLING", "HANDLER", "INSTANCE"}}
		for _, a := range s.Agents {
			rows = append(rows, []string{a.Name, a.State, fmt.Sprintf("%d/%d", a.Running, a.Concurrency), a.BillingMode, a.Handler, a.InstanceID})
		}
		if err := table(w, "", rows); err != nil {
			return err
		}
	}
	if len(s.Handlers) > 0 {
		fmt.Fprintln(w)
		if err := printHandlers(w, s.Handlers, now); err != nil {
			return err
		}
	}
	if len(s.Reasons) > 0 {
		fmt.Fprintln(w)
		for _, r := range s.Reasons {
			fmt.Fprintln(w, "! "+printable(r))
		}
	}
	return nil
}

func newHandlers(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "handlers", Short: "Show the handlers and their processes", Args: exactly(0, "blocksd handlers [--json]")}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, _ []string) error {
		hs, err := c.Handlers(ctx)
		if err != nil {
			return err
		}
		form := formOfHandlers(hs)
		if asJSON {
			return a.printJSON(form)
		}
		if err := printHandlers(a.Stdout, form, time.Now()); err != nil {
			return err
		}
		for _, h := range form {
			if h.Reason != "" {
				fmt.Fprintf(a.Stdout, "! handler %s: %s\n", printable(h.Name), printable(h.Reason))
			}
			if h.Notice != "" {
				fmt.Fprintf(a.Stdout, "! %s\n", printable(h.Notice))
			}
			for _, skipped := range h.SkippedLimits {
				fmt.Fprintf(a.Stdout, "! handler %s: %s\n", printable(h.Name), printable(skipped))
			}
		}
		return nil
	})
}

func printHandlers(w io.Writer, hs []handlerForm, now time.Time) error {
	rows := [][]string{{"HANDLER", "STATE", "RESTARTS", "PROCESSES", "PATH"}}
	for _, h := range hs {
		var ps []string
		for _, p := range h.Processes {
			text := fmt.Sprintf("%d (%s, %s", p.PID, p.State, bytesText(p.RSSBytes))
			if !p.StartedAt.IsZero() && p.StartedAt.Unix() > 0 {
				text += ", up " + age(now.Sub(p.StartedAt))
			}
			ps = append(ps, text+")")
		}
		rows = append(rows, []string{h.Name, h.State, strconv.FormatInt(h.Restarts, 10), strings.Join(ps, " "), h.Path})
	}
	if err := table(w, "", rows); err != nil {
		return err
	}
	for _, h := range hs {
		if c := h.Crash; c != nil {
			fmt.Fprintf(w, "last crash, %s ago: %s; see blocksd logs --crash %s\n", age(now.Sub(c.Time)), printable(c.Message), printable(h.Name))
		}
	}
	return nil
}

func newTasks(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "tasks", Short: "Show the tasks that have not ended", Args: exactly(0, "blocksd tasks [--json]")}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, _ []string) error {
		ts, err := c.Tasks(ctx)
		if err != nil {
			return err
		}
		form := formOfTasks(ts)
		if asJSON {
			return a.printJSON(form)
		}
		return printTasks(a.Stdout, form, time.Now())
	})
}

func printTasks(w io.Writer, ts []taskForm, now time.Time) error {
	if len(ts) == 0 {
		_, err := fmt.Fprintln(w, "no tasks")
		return err
	}
	rows := [][]string{{"TASK", "AGENT", "STATE", "AGE", "LEFT", "PID"}}
	for _, t := range ts {
		left, pid := "", ""
		if t.Deadline != nil {
			left = age(t.Deadline.Sub(now))
		}
		if t.PID != nil {
			pid = strconv.Itoa(int(*t.PID))
		}
		rows = append(rows, []string{t.TaskID, t.Agent, t.State, age(now.Sub(t.Since)), left, pid})
	}
	return table(w, "", rows)
}

func newCancel(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "cancel TASK", Short: "Ask a running task to end", Args: exactly(1, "blocksd cancel TASK")}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, args []string) error {
		if err := c.CancelTask(ctx, args[0]); err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(struct {
				TaskID   string `json:"taskId"`
				Canceled bool   `json:"canceled"`
			}{args[0], true})
		}
		_, err := fmt.Fprintf(a.Stdout, "task %s was told to end\n", args[0])
		return err
	})
}
