package daemon

import (
	"context"
	"log/slog"
	"testing"

	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
)

// What every start passes through is no warning.
func TestReasonsOfEveryStart(t *testing.T) {
	for _, tt := range []struct {
		code  roster.Code
		level slog.Level
	}{{roster.NotDescribed, slog.LevelDebug}, {roster.AgentWaits, slog.LevelDebug}, {roster.AgentTaken, slog.LevelWarn}} {
		bus := event.NewBus(event.Config{})
		r := bus.Since(0)
		emitReason(bus, roster.Reason{Code: tt.code, Object: "b", Other: "a", Detail: "x"}, "raised", slog.LevelWarn)
		e, err := r.Next(context.Background())
		if err != nil || e.Level != tt.level {
			t.Errorf("%s: level %v, %v; want %v", tt.code, e.Level, err, tt.level)
		}
		r.Close()
	}
}
