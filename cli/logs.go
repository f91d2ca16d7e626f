package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/control"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const logsHelp = `Show what handlers have written recently, oldest first, each line with its own level. The daemon keeps a few hundred lines of
each handler; older lines are in the daemon's log.

With --crash, show the last crash of HANDLER: why its process ended, the start of its panic, and its last lines.`

func newLogs(a *app) *cobra.Command {
	var follow, crash bool
	var lines int
	cmd := &cobra.Command{
		Use: "logs [HANDLER]", Short: "Show what handlers write", Long: logsHelp, Args: argsOfUse, Example: "  blocksd logs [-f] [HANDLER]",
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing new lines")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "how many past records to show; 0 for all that are kept")
	cmd.Flags().BoolVar(&crash, "crash", false, "show the last crash of HANDLER with its last lines")
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, args []string) error {
		request := &controlv1.LogsRequest{Follow: follow, LastCrash: crash}
		if len(args) == 1 {
			request.Handler = args[0]
		}
		switch {
		case lines < 0 || lines > math.MaxInt32:
			return usagef("logs: --lines must be 0 or more, not %d", lines)
		case crash && request.Handler == "":
			return usagef("logs: --crash needs the name of a handler: blocksd logs --crash HANDLER")
		case crash && follow:
			return usagef("logs: --crash and --follow cannot be combined")
		}
		request.Lines = int32(lines)
		p := logPrinter{w: a.Stdout, json: asJSON, crash: crash, all: request.Handler == ""}
		err := c.Logs(ctx, request, p.print)
		if follow && ctx.Err() != nil {
			return nil // Ctrl-C is the normal end
		}
		if err == nil && crash && p.n == 0 && !asJSON {
			_, err = fmt.Fprintf(a.Stdout, "handler %s has not crashed since the daemon started\n", printable(request.Handler))
		}
		if err == nil && !crash && !follow && p.n == 0 && !asJSON {
			who := "no handler has written anything yet"
			if request.Handler != "" {
				who = fmt.Sprintf("handler %s has written nothing yet", printable(request.Handler))
			}
			_, err = fmt.Fprintln(a.Stdout, who)
		}
		return err
	})
}

// logForm is one line of `logs --json`: {"type":"line",…} or {"type":"crash",…}.
type logForm struct {
	Type       string            `json:"type"`
	Time       time.Time         `json:"time"`
	Handler    string            `json:"handler"`
	PID        *int32            `json:"pid"`
	Level      string            `json:"level,omitempty"`
	Message    string            `json:"message,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Missed     int64             `json:"missed,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Panic      []string          `json:"panic,omitempty"`
	Lines      []string          `json:"lines,omitempty"`
}

func formOfLog(r *controlv1.LogsResponse) logForm {
	if c := r.GetCrash(); c != nil {
		return logForm{Type: "crash", Time: c.GetTime().AsTime(), Handler: c.GetHandler(), PID: c.Pid, Message: c.GetText(), Reason: c.GetReason(), Panic: c.GetPanic(), Lines: c.GetLines()}
	}
	l := r.GetRecord()
	f := logForm{Type: "line", Time: l.GetTime().AsTime(), Handler: l.GetHandler(), Level: l.GetLevel(), Message: l.GetMessage(), Missed: l.GetMissed()}
	if pid := l.GetPid(); pid != 0 { // else no process wrote it
		f.PID = &pid
	}
	for _, a := range l.GetAttributes() {
		if f.Attributes == nil {
			f.Attributes = map[string]string{}
		}
		f.Attributes[a.GetKey()] = a.GetValue()
	}
	return f
}

// logPrinter prints records as they arrive.
type logPrinter struct {
	w     io.Writer
	json  bool
	crash bool // with the last lines of a crash
	all   bool // of all handlers; each line names its handler
	bare  bool // without time and level
	n     int
}

func (p *logPrinter) print(r *controlv1.LogsResponse) error {
	p.n++
	f := formOfLog(r)
	if p.json {
		enc := json.NewEncoder(p.w)
		enc.SetEscapeHTML(false)
		return enc.Encode(f)
	}
	var b strings.Builder
	if f.Missed > 0 {
		fmt.Fprintf(&b, "… %s came too fast to be shown\n", counted(f.Missed, "line"))
	}
	if !p.bare {
		fmt.Fprint(&b, f.Time.Local().Format("15:04:05.000"))
	}
	if f.Type == "crash" {
		fmt.Fprintf(&b, " CRASH %s\n", printable(f.Message))
		if p.crash { // otherwise its lines are above
			if !containsLines(f.Lines, f.Panic) {
				section(&b, "its panic", f.Panic)
			}
			section(&b, "its last lines", f.Lines)
		}
	} else {
		if !p.bare {
			fmt.Fprintf(&b, " %-5s", f.Level)
		}
		if p.all {
			fmt.Fprintf(&b, " %s", printable(f.Handler))
		}
		message, more, _ := strings.Cut(strings.TrimRight(f.Message, "\n"), "\n")
		fmt.Fprintf(&b, " %s", printable(message))
		var blocks []*controlv1.LogAttribute // a stack keeps its lines
		for _, a := range r.GetRecord().GetAttributes() {
			if strings.Contains(a.GetValue(), "\n") {
				blocks = append(blocks, a)
				continue
			}
			value := printable(a.GetValue())
			if strings.ContainsAny(value, " \"=") || value == "" {
				value = strconv.Quote(value)
			}
			fmt.Fprintf(&b, " %s=%s", printable(a.GetKey()), value)
		}
		b.WriteByte('\n')
		if more != "" {
			indented(&b, "  ", strings.Split(more, "\n"))
		}
		for _, a := range blocks {
			section(&b, printable(a.GetKey()), strings.Split(strings.TrimRight(a.GetValue(), "\n"), "\n"))
		}
	}
	text := b.String()
	if p.bare {
		text = strings.TrimPrefix(text, " ")
	}
	_, err := io.WriteString(p.w, text)
	return err
}

func section(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "  %s:\n", title)
	indented(b, "    ", lines)
}

// indented prints lines with the indentation that they have, and more.
func indented(b *strings.Builder, by string, lines []string) {
	for _, line := range lines {
		text := strings.TrimLeft(line, "\t")
		fmt.Fprintf(b, "%s%s%s\n", by, strings.Repeat("    ", len(line)-len(text)), printable(text))
	}
}

// containsLines reports whether all has the lines of part, one after the other.
func containsLines(all, part []string) bool {
	for i := range all {
		if len(all)-i >= len(part) && slices.Equal(all[i:i+len(part)], part) {
			return true
		}
	}
	return false
}
