package plugintest_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/sources"
	"github.com/blocksd/blocksd/pluginsdk/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHandlers(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		task plugintest.Task
		want string
	}{
		"echo":      {plugintest.Text("request", "hello"), "Echoed request: hello"},
		"echo file": {plugintest.Task{Parts: []plugintest.Part{{ID: "first", File: []byte("abc"), FileName: "a.txt"}}}, `"fileName":"a.txt"`},
		"adder":     {plugintest.Text("request", `{"a":1,"b":2}`), `"sum": 3`},
	} {
		program, _, _ := strings.Cut(name, " ")
		h := plugintest.Start(t, plugintest.Build(t, "github.com/blocksd/blocksd/handlers/"+program))
		o := h.Do(tt.task)
		if o.Err != nil || len(o.Artifacts) != 1 || !strings.Contains(string(o.Artifacts[0].Data), tt.want) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestCancel(t *testing.T) {
	h := plugintest.Start(t, plugintest.Build(t, "github.com/blocksd/blocksd/handlers/internal/sleeper"))
	if o := h.Do(plugintest.Text("request", "1ms")); o.Err != nil || len(o.Statuses) != 1 || o.Statuses[0] != "sleeping" {
		t.Errorf("ended with %+v", o)
	}
	for _, after := range []time.Duration{1, 50 * time.Millisecond} { // before the handler has the task, and most likely then
		task := plugintest.Text("request", "1h")
		task.CancelAfter = after
		if o := h.Do(task); o.Err == nil || o.Took >= plugintest.Timeout {
			t.Errorf("ended with %+v", o)
		}
	}
}

// The reference handlers keep the contract, streams included.
func TestReferenceHandlers(t *testing.T) {
	for _, name := range []string{"echo", "adder", "echostream", "stocksim", "chat", "bidichat", "advancedstream"} {
		t.Run(name, func(t *testing.T) {
			plugintest.Check(t, plugintest.Build(t, "github.com/blocksd/blocksd/handlers/"+name))
		})
	}
}
