package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/internal/shell"
)

// What the commands that ask a daemon print for people.

func (s screen) status(w io.Writer, st statusForm, now time.Time) error {
	ready, how := "ready", good
	if !st.Ready {
		ready, how = "not ready", odd
	}
	if err := s.text(w, how, "", fmt.Sprintf("blocksd %s, pid %d: %s", st.Version, st.PID, ready)); err != nil {
		return err
	}
	t := st.Tasks
	counts := fmt.Sprintf("%d running, %d accepted, %d completed, %d failed, %d canceled", t.Running, t.Accepted, t.Completed, t.Failed, t.Canceled)
	if t.Outbox > 0 {
		counts += fmt.Sprintf(", %s not delivered yet", counted(t.Outbox, "outcome"))
	}
	if err := s.text(w, ordinary, "tasks: ", counts); err != nil {
		return err
	}
	if len(st.Agents) > 0 {
		fmt.Fprintln(w)
		if err := s.agents(w, st.Agents); err != nil {
			return err
		}
	}
	if len(st.Handlers) > 0 {
		fmt.Fprintln(w)
		if err := s.handlers(w, st.Handlers, now, handlerColumns); err != nil {
			return err
		}
	}
	if len(st.Reasons) > 0 {
		fmt.Fprintln(w)
		for _, r := range st.Reasons {
			if err := s.text(w, odd, "! ", r); err != nil {
				return err
			}
		}
	}
	return nil
}

var agentColumns = []column{{title: "AGENT"}, {title: "STATE"}, {title: "TASKS"}, {title: "BILLING", rank: 2}, {title: "HANDLER", rank: 1}, {title: "INSTANCE", rank: 3}}

func (s screen) agents(w io.Writer, as []agentForm) error {
	var rows [][]cell
	for _, a := range as {
		rows = append(rows, []cell{
			{text: a.Name}, {a.State, stateTone(a.State)}, {text: fmt.Sprintf("%d/%d", a.Running, a.Concurrency)}, {text: a.BillingMode},
			{text: a.Handler}, {text: a.InstanceID},
		})
	}
	columns := agentColumns
	if slices.ContainsFunc(as, func(a agentForm) bool { return a.Streams > 0 }) { // most agents have none
		columns = slices.Insert(slices.Clone(columns), 3, column{title: "STREAMS", rank: 2})
		for i, a := range as {
			rows[i] = slices.Insert(rows[i], 3, cell{text: fmt.Sprint(a.Streams)})
		}
	}
	return s.grid(w, columns, rows)
}

// stateTone is how the state of an agent, handler or task looks.
func stateTone(state string) tone {
	switch state {
	case "online", "ready", "idle", "running", "completed":
		return good
	case "failed", "quarantined":
		return bad
	}
	return odd
}

// handlerColumns are in the order of printing; handlerPathColumns are for those who want to know which file it is.
var (
	handlerColumns = []column{
		{title: "HANDLER"}, {title: "STATE"}, {title: "VERSION", rank: 2}, {title: "SHA256", rank: 3}, {title: "ISOLATION", rank: 5},
		{title: "RESTARTS", rank: 1}, {title: "PID"}, {title: "MEMORY", rank: 4}, {title: "UP", rank: 4}, {title: "PATH", rank: 6, tail: true},
	}
	handlerPathColumns = func() []column {
		columns := slices.Clone(handlerColumns)
		columns[len(columns)-1].rank = 1
		columns[5].rank = 2
		return columns
	}()
)

// shortSum is how many digits of a checksum people see; --json has all.
const shortSum = 12

func (s screen) handlers(w io.Writer, hs []handlerForm, now time.Time, columns []column) error {
	var rows [][]cell
	for _, h := range hs {
		pids, memory, since := []string{}, int64(0), time.Time{}
		for _, p := range h.Processes {
			pids = append(pids, strconv.Itoa(int(p.PID)))
			memory += p.RSSBytes
			if known := p.StartedAt.Unix() > 0; known && (since.IsZero() || p.StartedAt.Before(since)) {
				since = p.StartedAt
			}
		}
		size, up := "", ""
		if memory > 0 {
			size = bytesText(memory)
		}
		if !since.IsZero() {
			up = age(now.Sub(since))
		}
		rows = append(rows, []cell{
			{text: h.Name}, {h.State, stateTone(h.State)}, {text: h.Version}, {text: h.SHA256[:min(shortSum, len(h.SHA256))]}, {text: h.Isolation},
			{text: strconv.FormatInt(h.Restarts, 10)}, {text: strings.Join(pids, " ")}, {text: size}, {text: up}, {text: h.Path},
		})
	}
	if err := s.grid(w, columns, rows); err != nil {
		return err
	}
	for _, h := range hs {
		if c := h.Crash; c != nil {
			text := fmt.Sprintf("last crash, %s ago: %s; see blocksd logs --crash %s", age(now.Sub(c.Time)), c.Message, shell.Word(h.Name))
			if err := s.text(w, ordinary, "", text); err != nil {
				return err
			}
		}
	}
	return nil
}

// openIsolation says what the walls of handlers leave open, once for all handlers of which the same is to be said.
func openIsolation(hs []handlerForm) (texts []string) {
	type finding struct{ isolation, open string }
	var order []finding
	names := map[finding][]string{}
	for _, h := range hs {
		for _, open := range h.IsolationOpen {
			f := finding{h.Isolation, open}
			if names[f] == nil {
				order = append(order, f)
			}
			names[f] = append(names[f], h.Name)
		}
	}
	for _, f := range order {
		who := "handler "
		if len(names[f]) > 1 {
			who = "handlers "
		}
		texts = append(texts, fmt.Sprintf("%s%s, isolation %s: %s", who, strings.Join(names[f], ", "), f.isolation, f.open))
	}
	return texts
}

// handlerReasons prints what is wrong with handlers; blocksd status has it among the reasons of the daemon.
func (s screen) handlerReasons(w io.Writer, hs []handlerForm) error {
	var texts []string
	for _, h := range hs {
		if h.Reason != "" {
			text := h.Reason
			if about := "handler " + h.Name; !strings.HasPrefix(text, about+" ") {
				text = about + ": " + text
			}
			texts = append(texts, text)
		}
		if h.Notice != "" {
			texts = append(texts, h.Notice)
		}
		for _, skipped := range h.SkippedLimits {
			texts = append(texts, fmt.Sprintf("handler %s: %s", h.Name, skipped))
		}
	}
	texts = append(texts, openIsolation(hs)...)
	for _, text := range texts {
		if err := s.text(w, odd, "! ", text); err != nil {
			return err
		}
	}
	return nil
}

var taskColumns = []column{{title: "TASK"}, {title: "AGENT"}, {title: "STATE"}, {title: "AGE"}, {title: "LEFT", rank: 1}, {title: "PID", rank: 2}}

func (s screen) tasks(w io.Writer, ts []taskForm, now time.Time) error {
	if len(ts) == 0 {
		_, err := fmt.Fprintln(w, "no tasks")
		return err
	}
	var rows [][]cell
	for _, t := range ts {
		left, pid := "", ""
		if t.Deadline != nil {
			left = age(t.Deadline.Sub(now))
		}
		if t.PID != nil {
			pid = strconv.Itoa(int(*t.PID))
		}
		rows = append(rows, []cell{
			{text: t.TaskID}, {text: t.Agent}, {t.State, stateTone(t.State)}, {text: age(now.Sub(t.Since))}, {text: cmp.Or(left, "-")}, {text: pid},
		})
	}
	return s.grid(w, taskColumns, rows)
}
