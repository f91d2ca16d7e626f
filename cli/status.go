package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// What the commands that ask a daemon print for people.

func printStatus(w io.Writer, s statusForm, now time.Time) error {
	ready := "ready"
	if !s.Ready {
		ready = "not ready"
	}
	t := s.Tasks
	fmt.Fprintf(w, "blocksd %s, pid %d: %s\n", printable(s.Version), s.PID, ready)
	fmt.Fprintf(w, "tasks: %d running, %d accepted, %d completed, %d failed, %d canceled", t.Running, t.Accepted, t.Completed, t.Failed, t.Canceled)
	if t.Outbox > 0 {
		fmt.Fprintf(w, ", %s not delivered yet", counted(t.Outbox, "outcome"))
	}
	fmt.Fprintln(w)
	if len(s.Agents) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"AGENT", "STATE", "TASKS", "BILLING", "HANDLER", "INSTANCE"}}
		for _, a := range s.Agents {
			rows = append(rows, []string{a.Name, a.State, fmt.Sprintf("%d/%d", a.Running, a.Concurrency), a.BillingMode, a.Handler, a.InstanceID})
		}
		if err := table(w, rows); err != nil {
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

func printHandlers(w io.Writer, hs []handlerForm, now time.Time) error {
	rows := [][]string{{"HANDLER", "STATE", "ISOLATION", "RESTARTS", "PROCESSES", "PATH"}}
	for _, h := range hs {
		var ps []string
		for _, p := range h.Processes {
			text := fmt.Sprintf("%d (%s, %s", p.PID, p.State, bytesText(p.RSSBytes))
			if !p.StartedAt.IsZero() && p.StartedAt.Unix() > 0 {
				text += ", up " + age(now.Sub(p.StartedAt))
			}
			ps = append(ps, text+")")
		}
		rows = append(rows, []string{h.Name, h.State, h.Isolation, strconv.FormatInt(h.Restarts, 10), strings.Join(ps, " "), h.Path})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	for _, h := range hs {
		if c := h.Crash; c != nil {
			fmt.Fprintf(w, "last crash, %s ago: %s; see blocksd logs --crash %s\n", age(now.Sub(c.Time)), printable(c.Message), printable(h.Name))
		}
	}
	return nil
}

// printHandlerReasons prints what is wrong with handlers; blocksd status has it among the reasons of the daemon.
func printHandlerReasons(w io.Writer, hs []handlerForm) error {
	var texts []string
	for _, h := range hs {
		if h.Reason != "" {
			texts = append(texts, fmt.Sprintf("handler %s: %s", h.Name, h.Reason))
		}
		if h.Notice != "" {
			texts = append(texts, h.Notice)
		}
		for _, skipped := range h.SkippedLimits {
			texts = append(texts, fmt.Sprintf("handler %s: %s", h.Name, skipped))
		}
		for _, open := range h.IsolationOpen {
			texts = append(texts, fmt.Sprintf("handler %s, isolation %s: %s", h.Name, h.Isolation, open))
		}
	}
	for _, text := range texts {
		if _, err := fmt.Fprintln(w, "! "+printable(text)); err != nil {
			return err
		}
	}
	return nil
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
	return table(w, rows)
}
