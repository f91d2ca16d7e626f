package nearest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/nearest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestName(t *testing.T) {
	known := []string{"handler", "concurrency", "maxRunningTimeSec", "state_dir", "plugins.autoload", "json"}
	for name, want := range map[string]string{
		"handlr": "handler", "Handler": "handler", "concurency": "concurrency", "max_running_time_sec": "maxRunningTimeSec",
		"state-dir": "state_dir", "plugins.autolaod": "plugins.autoload", "jsno": "json", "zzzzzzzz": "", "": "",
	} {
		if got := nearest.Name(name, known); got != want {
			t.Errorf("Name(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestHint(t *testing.T) {
	if got, want := nearest.Hint("jsn", []string{"json"}), `, did you mean "json"?`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := nearest.Hint("completely_else", []string{"json"}); got != "" {
		t.Errorf("got %q for a name that resembles nothing", got)
	}
}
