package conformance

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/internal/testplugin"
)

var plugins = testplugin.New("echo", "sleeper", "badhandler")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		plugins.Remove()
		os.Exit(code)
	}))
}

func check(t *testing.T, path string) (Report, error) {
	t.Helper()
	return Check(t.Context(), Program{Path: path}, Options{Log: slog.New(slog.DiscardHandler), WithoutTasks: true})
}

func TestCheck(t *testing.T) {
	r, err := check(t, plugins.Path(t, "echo"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "echo" || !r.Described || !r.Cancel || !r.Idempotent || len(r.Agents) != 1 || len(r.SHA256) != 64 || len(r.Problems) != 0 || r.Start <= 0 {
		t.Errorf("report %+v", r)
	}
	// What the contract leaves open is reported, and not a problem. A card must come from somewhere.
	minimal := plugins.Alias(t, "badhandler", "badhandler-minimal")
	if r, err = check(t, minimal); err != nil {
		t.Fatal(err)
	}
	want := "it has no agent card: put one beside it as badhandler-minimal.agent-card.json, return one from Describe, or name one in the configuration, under agents"
	if len(r.Problems) != 1 || r.Problems[0] != want || len(r.Notes) != 2 {
		t.Errorf("without a card: problems %q, notes %q", r.Problems, r.Notes)
	}
	beside := minimal + ".agent-card.json"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(beside, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"identity":{"agentName":"beside","displayName":"","description":"","version":"1","provider":{"organization":""}},
		"capabilities":{"taskKinds":["request"]},"tags":[{"id":"x","name":"X"}],"runtime":{"handler":"h"}}`)
	defer os.Remove(beside)
	if r, err = check(t, minimal); err != nil || len(r.Problems) != 0 || len(r.Agents) != 1 || r.Agents[0].AgentName != "beside" || r.CardPath != beside {
		t.Errorf("with a card beside it: %+v, %v", r, err)
	}
	write("{}")
	if r, err = check(t, minimal); err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "agent card "+beside+" is not valid") {
		t.Errorf("with a wrong card beside it: %+v, %v", r, err)
	}
	for path, want := range map[string]string{
		"check_test.go": "cannot be a handler because it is not executable: chmod 0755 it",
		"nowhere":       "cannot be a handler because it cannot be read: no such file or directory",
		"/bin/true":     "handler true could not be started because it ended with exit code 0 before its handshake",
		plugins.Alias(t, "badhandler", "badhandler-wrong-version"): "handler badhandler-wrong-version could not be started because ",
	} {
		if _, err := check(t, path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A handler may take as long to stop as a daemon waits: the machine may be busy.
func TestSlowStop(t *testing.T) {
	t.Parallel()
	r, err := check(t, plugins.Alias(t, "badhandler", "badhandler-slow-stop"))
	if err != nil || len(r.Problems) != 0 || r.Stop < 3*time.Second {
		t.Errorf("report %+v, %v", r, err)
	}
}

// A task that is assigned can be canceled, however soon that is.
func TestCancelAtOnce(t *testing.T) {
	b, err := NewBench(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h, err := b.Start(t.Context(), Program{Path: plugins.Path(t, "sleeper")})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Stop()
	text, canceled := "1h", make(chan error, 1)
	task := Task{Task: wire.Task{ID: "t", Kind: wire.Request, Parts: []wire.Part{{PartID: "request", Text: &text}}}}
	task.OnAssigned = func() {
		go func() { canceled <- h.Cancel(t.Context(), "t", dispatch.CancelUser, time.Second) }()
	}
	if o := h.Do(t.Context(), task); o.Err == nil {
		t.Errorf("ended with %+v", o)
	}
	if err := <-canceled; err != nil {
		t.Error(err)
	}
}

func suiteOf(t *testing.T, path string) Report {
	t.Helper()
	r, err := Check(t.Context(), Program{Path: path}, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSuite(t *testing.T) {
	for _, name := range []string{"echo", "sleeper"} {
		r := suiteOf(t, plugins.Path(t, name))
		var names []string
		for _, c := range r.Results {
			names = append(names, c.Check)
			if c.State != OK {
				t.Errorf("%s: %+v", name, c)
			}
		}
		want := "start card example concurrency cancel no inputs large input health stop"
		if got := strings.Join(names, " "); got != want || len(r.Problems) > 0 {
			t.Errorf("%s: checked %q, problems %q", name, got, r.Problems)
		}
	}
}

// A card may have no inputs: then a task without parts is what its agent gets.
func TestSuiteWithoutInputs(t *testing.T) {
	path := plugins.Alias(t, "echo", "echo-without-inputs")
	doc := `{"identity":{"agentName":"bare","displayName":"","description":"","version":"1","provider":{"organization":""}},
		"capabilities":{"taskKinds":["request"]},"tags":[{"id":"x","name":"X"}],"runtime":{"handler":"h"},"io":{"inputs":[],"outputs":[]}}`
	if err := os.WriteFile(path+".agent-card.json", []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	var names []string
	r := suiteOf(t, path)
	for _, c := range r.Results {
		names = append(names, c.Check)
		if c.State != OK {
			t.Errorf("%+v", c)
		}
	}
	if got := strings.Join(names, " "); got != "start card example cancel no inputs health stop" {
		t.Errorf("checked %q", got)
	}
}

// A handler that breaks the contract is found out, and the suite goes on to its end.
func TestSuiteFindsFaults(t *testing.T) {
	for example, want := range map[string]map[string]string{
		"exit 3":        {"example": "failed: The handler crashed", "cancel": "the process did not survive the task", "health": "its health check failed", "stop": "it ended with exit code 3"},
		"ignore-cancel": {"example": "it had not ended after 1s", "cancel": "a canceled task went on after the grace of 5s"},
		"panic":         {"example": "failed: The handler failed with an internal error"},
		"no-result":     {"example": "failed: The handler ended without a result"},
	} {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			limit := ""
			if example == "ignore-cancel" { // which never ends
				limit = `,"maxRunningTimeSec":1`
			}
			path := plugins.Alias(t, "badhandler", "badhandler-"+strings.ReplaceAll(example, " ", "-"))
			doc := `{"identity":{"agentName":"bad","displayName":"","description":"","version":"1","provider":{"organization":""}},
				"capabilities":{"taskKinds":["request"]},"tags":[{"id":"x","name":"X"}],"runtime":{"handler":"h"` + limit + `},
				"io":{"inputs":[{"id":"request","description":"d","contentType":"text/plain","required":true,"example":"` + example + `"}]}}`
			if err := os.WriteFile(path+".agent-card.json", []byte(doc), 0o600); err != nil {
				t.Fatal(err)
			}
			found := map[string]string{}
			for _, c := range suiteOf(t, path).Results {
				if c.State == Fail {
					found[c.Check] = c.Detail
				}
			}
			for check, text := range want {
				if !strings.Contains(found[check], text) {
					t.Errorf("%s: %q, want %q", check, found[check], text)
				}
			}
		})
	}
}
