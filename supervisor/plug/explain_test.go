package plug

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/supervisor/logpump"
)

// Why a task failed is beside what the handler wrote. A crash is a record of its own, and the answer of a canceled task
// does not count.
func TestWhyTasksFail(t *testing.T) {
	for _, c := range []struct {
		alias, text string
		level       slog.Level
		want        string // the beginning of the record; "" for none
		lines       int    // at least
	}{
		{"", "none", 0, "", 0},
		{"", "error no such city", slog.LevelWarn, "a task failed: no such city", 1},
		{"", "private-error the secret", slog.LevelError, "a task failed: Something went wrong: the secret", 1},
		{"", "panic", slog.LevelError, "a task failed: The handler failed with an internal error: panic: I was told to\ngoroutine ", 5},
		{"", "no-result", slog.LevelError, "a task failed: handler badhandler ended the call of task t without a result", 1},
		{"", "exit 7", 0, "", 0},
		{"minimal", "status-error", slog.LevelError, "a task failed: handler badhandler-minimal ended the call of task t with an error of gRPC: rpc error: code = Internal desc = it broke", 1},
		{"minimal", "mixed", slog.LevelError, "a task failed: handler badhandler-minimal broke the contract in task t: ", 1},
	} {
		t.Run(c.alias+c.text, func(t *testing.T) {
			r := newFixture(t)
			if c.text == "exit 7" {
				r.Timeouts.ExitNotice = patience // on a busy machine
			}
			r.Buffer = &logpump.Buffer{}
			conn := r.conn(t, "badhandler", c.alias)
			do(t, conn, "t", c.text)
			var found []logpump.Record
			for _, record := range r.Buffer.Tail(conn.config.Handler, 1000) {
				if strings.Contains(record.Message, "a task failed") || strings.Contains(record.Message, "panicked") {
					found = append(found, record)
				}
			}
			if c.want == "" {
				if len(found) != 0 {
					t.Errorf("records %+v", found)
				}
				return
			}
			if len(found) != 1 {
				t.Fatalf("%d records: %+v", len(found), found)
			}
			record := found[0]
			if !strings.HasPrefix(record.Message, c.want) || record.Level != c.level || strings.Count(record.Message, "\n")+1 < c.lines || record.PID != conn.PID() ||
				len(record.Attrs) != 2 || record.Attrs[0] != (logpump.Pair{Key: "task", Value: "t"}) {
				t.Errorf("record %+v", record)
			}
		})
	}
	t.Run("canceled", func(t *testing.T) {
		r := newFixture(t)
		r.Buffer = &logpump.Buffer{}
		conn := r.conn(t, "badhandler", "")
		running, ended := newPort(), make(chan error, 1)
		go func() { ended <- give(t.Context(), conn, request("t", "hang"), running, Hooks{}) }()
		wait(t, running.changed, "the task to run")
		if err := conn.CancelTask(t.Context(), "t", dispatch.CancelUser, patience); err != nil {
			t.Fatal(err)
		}
		<-ended
		for _, record := range r.Buffer.Tail("badhandler", 1000) {
			if strings.Contains(record.Message, "a task failed") {
				t.Errorf("record %+v", record)
			}
		}
	})
}
