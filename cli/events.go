package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/control"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const eventsHelp = `Show what has happened in the daemon, oldest first: tasks, agents, handlers, processes, reloads. Every event has a number, which
grows by one. The daemon keeps the latest 4,096 events of tasks and streams and 1,024 others since it started; what is missing
in between is said.

A script reads on where it left off with --since and the number of the last event that it has seen.`

func newEvents(a *app) *cobra.Command {
	var follow bool
	var since uint64
	var last int
	cmd := &cobra.Command{
		Use: "events", Short: "Show what has happened", Long: eventsHelp, Args: argsOfUse, Example: "  blocksd events [-f] [--since SEQ]",
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing new events")
	cmd.Flags().Uint64Var(&since, "since", 0, "only what came after the event with this number (default: everything that is kept)")
	cmd.Flags().IntVarP(&last, "last", "n", 0, "only so many of the latest past events; 0 for all that are kept")
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, _ []string) error {
		if last < 0 || last > math.MaxInt32 {
			return usagef("events: --last must be 0 or more, not %d", last)
		}
		request := &controlv1.EventsRequest{Follow: follow, Last: int32(last)}
		if cmd.Flags().Changed("since") {
			request.Since = &since
		}
		p := newEventPrinter(a, asJSON)
		err := c.Events(ctx, request, p.print)
		if follow && ctx.Err() != nil {
			return nil // Ctrl-C is the normal end
		}
		return err
	})
}

// eventForm is one line of `events --json`. Fixed: members may be added, never renamed.
type eventForm struct {
	Seq        uint64    `json:"seq"`
	Time       time.Time `json:"time"`
	Type       string    `json:"type"`
	Agent      string    `json:"agent,omitempty"`
	Handler    string    `json:"handler,omitempty"`
	TaskID     string    `json:"taskId,omitempty"`
	PID        *int32    `json:"pid,omitempty"`
	State      string    `json:"state,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	DurationMS *int64    `json:"durationMs,omitempty"`
}

// missedForm is the line in place of events that are not there any more.
type missedForm struct {
	Type  string `json:"type"`
	Count uint64 `json:"count"`
}

func formOfEvent(e *controlv1.Event) eventForm {
	f := eventForm{
		Seq: e.GetSeq(), Time: e.GetTime().AsTime(), Type: e.GetType(), Agent: e.GetAgent(), Handler: e.GetHandler(), TaskID: e.GetTaskId(),
		PID: e.Pid, State: e.GetState(), Reason: e.GetReason(),
	}
	if e.GetDuration() != nil {
		ms := e.GetDuration().AsDuration().Round(time.Millisecond).Milliseconds()
		f.DurationMS = &ms
	}
	return f
}

// eventPrinter prints events as they arrive, one line each.
type eventPrinter struct {
	w    io.Writer
	json bool
	// width is that of the terminal, 0 for no limit. Elsewhere lines are as long as they are.
	width int
	style style
}

func newEventPrinter(a *app, asJSON bool) *eventPrinter {
	p := &eventPrinter{w: a.Stdout, json: asJSON, style: a.style()}
	if f, ok := a.Stdout.(*os.File); ok && isTerminal(f) {
		p.width = terminalWidth(f)
	}
	return p
}

func (p *eventPrinter) print(item *controlv1.EventItem) error {
	if p.json {
		var form any = missedForm{"missed", item.GetMissed()}
		if e := item.GetEvent(); e != nil {
			form = formOfEvent(e)
		}
		enc := json.NewEncoder(p.w)
		enc.SetEscapeHTML(false)
		return enc.Encode(form)
	}
	e := item.GetEvent()
	if e == nil {
		_, err := fmt.Fprintf(p.w, "… %s are not kept any more, or came too fast\n", counted(int64(item.GetMissed()), "event"))
		return err
	}
	text := cut(eventText(e), p.width)
	if p.style.on {
		text = p.style.of(eventTone(e), text)
	}
	_, err := fmt.Fprintln(p.w, text)
	return err
}

// eventText is an event in one line: when, what, about what, and why.
func eventText(e *controlv1.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-15s", e.GetTime().AsTime().Local().Format("15:04:05"), e.GetType())
	word := func(s string) {
		if s != "" {
			b.WriteString(" " + printable(s))
		}
	}
	word(e.GetState())
	switch {
	case e.GetAgent() != "":
		word(e.GetAgent())
	default:
		word(e.GetHandler())
	}
	word(e.GetTaskId())
	if e.Pid != nil {
		word(fmt.Sprintf("pid %d", e.GetPid()))
	}
	if d := e.GetDuration(); d != nil {
		word(shortDuration(d.AsDuration()))
	}
	if e.GetReason() != "" {
		b.WriteString(": " + printable(e.GetReason()))
	}
	return b.String()
}

// eventTone is how an event looks on a terminal.
func eventTone(e *controlv1.Event) tone {
	switch {
	case e.GetState() == "failed", e.GetState() == "rejected", e.GetState() == "quarantined", e.GetType() == "task_refused":
		return bad
	case e.GetState() == "canceled", e.GetState() == "backing_off", e.GetState() == "unhealthy", e.GetState() == "raised", e.GetState() == "not_ready":
		return odd
	case e.GetState() == "online", e.GetState() == "ready":
		return good
	}
	return ordinary
}

// shortDuration is a duration for people with three digits or so.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return age(d)
}
