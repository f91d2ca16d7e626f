package daemon

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/wire"
)

// TestMetrics: a task is counted in all of its phases, by the daemon as it runs.
func TestMetrics(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Settings.Telemetry.Listen = "127.0.0.1:0"
	d := start(t, c)
	address := "http://" + d.metricsListener.Addr().String()
	get := func(path string) (int, string) {
		r, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	d.ready(t)
	if code, body := get("/readyz"); code != http.StatusOK {
		t.Errorf("a daemon that is ready answers %d: %s", code, body)
	}
	if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
	wanted := []string{
		`blocksd_ready 1`, `blocksd_agent_state{agent="echo",state="online"} 1`, `blocksd_tasks_total{agent="echo",outcome="completed"} 1`,
		`blocksd_outbox_terminals 0`, `blocksd_handler_processes{handler="echo",state="ready"} 1`,
	}
	for _, phase := range []string{"admit", "queue", "handler", "publish", "total"} {
		wanted = append(wanted, `blocksd_task_duration_seconds_count{agent="echo",phase="`+phase+`"} 1`)
	}
	var body string
	testutil.Eventually(t, waitLimit, "everything is counted", func() bool {
		_, body = get("/metrics")
		for _, line := range wanted {
			if !strings.Contains(body, "\n"+line+"\n") {
				return false
			}
		}
		return !strings.Contains(body, "blocksd_journal_commit_seconds_count 0\n") && !strings.Contains(body, "blocksd_publish_seconds_count 0\n")
	})
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "undrain") {
		t.Errorf("a drained daemon answers %d: %s", code, body)
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("a drained daemon is not healthy: %d", code)
	}
}
