package event_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/event"
)

func TestLog(t *testing.T) {
	b := event.NewBus(event.Config{Now: func() time.Time { return time.Unix(0, 0).UTC() }})
	r := b.Follow(event.States()...)
	defer r.Close()
	for _, e := range []event.Event{
		{Type: event.AgentState, Agent: "a", State: "online"},
		{Type: event.AgentState, Agent: "a", State: "connecting", Reason: "The connection is lost."},
		{Type: event.TaskEnded, Agent: "a", TaskID: "t"},
		{Type: event.ProcessStarted, Handler: "h", PID: 7, Duration: time.Second, Details: []slog.Attr{slog.Int("generation", 2)}},
		{Type: event.ProcessExited, Handler: "h", PID: 7},
		{Type: event.ProcessExited, Handler: "h", PID: 8, Level: slog.LevelError, Reason: "handler h is down because it crashed"},
		{Type: event.HandlerState, Handler: "h", State: "ready", Level: slog.LevelDebug},
		{Type: event.Notice, Reason: "something is odd", Level: slog.LevelWarn},
	} {
		b.Emit(e)
	}
	var out bytes.Buffer
	ended, end := context.WithCancel(t.Context())
	end()
	event.Log(ended, r, slog.New(slog.NewTextHandler(&out, nil)))
	tasks := b.Since(0, event.TaskEnded)
	defer tasks.Close()
	event.Log(ended, tasks, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	want := `level=INFO msg="agent state" agent=a state=online
level=INFO msg="agent state" agent=a state=connecting reason="The connection is lost."
level=INFO msg="handler is ready" handler=h pid=7 took=1s generation=2
level=INFO msg="handler process has ended" handler=h pid=7
level=ERROR msg="handler h is down because it crashed" handler=h pid=8
level=WARN msg="something is odd"
level=DEBUG msg="task ended" agent=a task=t
`
	if got := strings.ReplaceAll(out.String(), "time=1970-01-01T00:00:00.000Z ", ""); got != want {
		t.Errorf("logged\n%swant\n%s", got, want)
	}
}
