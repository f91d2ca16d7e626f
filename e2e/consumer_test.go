package e2e

// testdata/consumer is an application against package client, as somebody outside writes it. Here it is built against the
// working tree, unchanged, and drives the real programs.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// application is the program, built.
type application struct {
	path string
	env  []string
}

// line is one that it prints.
type line struct {
	Type, Task, User, Kind, State, Message, Name, MIME, Error, Completion string
	Idempotent, Queued, More                                              bool
	Size, Count                                                           int
	Paths                                                                 []string
}

// buildConsumer builds the application with what the module's own go.sum has brought in, and nothing from elsewhere.
func buildConsumer(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for from, to := range map[string]string{"testdata/consumer/main.go": "main.go", "testdata/consumer/go.mod": "go.mod", "../go.sum": "go.sum"} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "consumer")
	for _, args := range [][]string{{"mod", "edit", "-replace", "github.com/blocksd/blocksd=" + root}, {"build", "-o", program, "."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return program
}

// run runs it to its end and returns what it printed, by type.
func (a application) run(t *testing.T, args ...string) (map[string][]line, int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), system.CallDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.path, args...)
	cmd.Env = append(system.CleanEnv(), a.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("consumer %q: %v\n%s%s", args, err, &stdout, &stderr)
	}
	return parse(t, &stdout), cmd.ProcessState.ExitCode(), stderr.String()
}

func parse(t *testing.T, r io.Reader) map[string][]line {
	t.Helper()
	lines := map[string][]line{}
	for d := json.NewDecoder(r); ; {
		var raw map[string]json.RawMessage
		if err := d.Decode(&raw); err == io.EOF {
			return lines
		} else if err != nil {
			t.Fatal(err)
		}
		kind, media := raw["type"], raw["type"]
		if name, ok := raw["name"]; ok && len(name) > 0 { // an artifact's media type has the name of the line's own
			kind = json.RawMessage(`"artifact"`)
		}
		raw["type"], raw["mime"] = kind, media
		b, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		lines[l.Type] = append(lines[l.Type], l)
	}
}

// kinds of its events.
func kinds(lines map[string][]line) (out []string) {
	for _, e := range lines["event"] {
		out = append(out, strings.TrimSpace(e.Kind+" "+e.State+e.Message))
	}
	return out
}

func one(t *testing.T, lines map[string][]line, kind string) line {
	t.Helper()
	if len(lines[kind]) != 1 {
		t.Fatalf("%d lines of type %s: %+v", len(lines[kind]), kind, lines)
	}
	return lines[kind][0]
}

func TestConsumerApplication(t *testing.T) {
	plugins := system.PluginDir(t, map[string]string{
		"echo": filepath.Join(bin.Plugins(), "echo"), "adder": filepath.Join(bin.Plugins(), "adder"), "scripted": filepath.Join(bin.TestPlugins(), "scripted"),
	}, nil)
	n := bin.Dev(t, plugins)
	app := application{buildConsumer(t), n.Env}

	t.Run("text", func(t *testing.T) {
		got, code, stderr := app.run(t, "-save", t.TempDir(), "echo", "hello")
		if code != 0 || !slices.Equal(kinds(got), []string{"request", "progress running", "artifact", "terminal completed"}) {
			t.Fatalf("exit %d: %s\n%+v", code, stderr, got)
		}
		a, saved := one(t, got, "artifact"), one(t, got, "saved")
		if a.MIME != "text/plain" || a.Size != len("Echoed request: hello") || len(saved.Paths) != 1 {
			t.Errorf("%+v, %+v", a, saved)
		}
		if b, err := os.ReadFile(saved.Paths[0]); err != nil || string(b) != "Echoed request: hello" {
			t.Errorf("%q, %v", b, err)
		}
		if one(t, got, "client").User == "" || one(t, got, "tasks").Count == 0 || one(t, got, "end").State != "completed" {
			t.Errorf("%+v", got)
		}

		again, code, _ := app.run(t, "-connect", one(t, got, "session").Task)
		if code != 0 || !slices.Equal(kinds(again), kinds(got)) || one(t, again, "artifact").Size != a.Size {
			t.Errorf("connected: exit %d, %+v", code, again)
		}
	})
	t.Run("JSON", func(t *testing.T) {
		got, code, stderr := app.run(t, "-json", "-mode", "free", "adder", `{"a":2,"b":3}`)
		if code != 0 || one(t, got, "artifact").MIME != "application/json" {
			t.Fatalf("exit %d: %s\n%+v", code, stderr, got)
		}
	})
	t.Run("small and large file", func(t *testing.T) {
		for _, size := range []int{100, 200_000} {
			file := filepath.Join(t.TempDir(), "input.bin")
			if err := os.WriteFile(file, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
				t.Fatal(err)
			}
			got, code, stderr := app.run(t, "-json", "-save", t.TempDir(), "-file", "file="+file, "scripted", `[{"digest":"file"}]`)
			if code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			b, err := os.ReadFile(one(t, got, "saved").Paths[0])
			if err != nil || !strings.HasPrefix(string(b), fmt.Sprintf("input.bin application/octet-stream %d ", size)) {
				t.Errorf("%q, %v", b, err)
			}
		}
	})
	t.Run("repeated with a key", func(t *testing.T) {
		first, _, _ := app.run(t, "-key", "once", "echo", "a")
		second, code, stderr := app.run(t, "-key", "once", "echo", "a")
		a, b := one(t, first, "session"), one(t, second, "session")
		if code != 0 || a.Task != b.Task || a.Idempotent || !b.Idempotent || !slices.Equal(kinds(first), kinds(second)) {
			t.Errorf("exit %d: %s\n%+v\n%+v", code, stderr, first, second)
		}
	})
	t.Run("tokens from an endpoint", func(t *testing.T) {
		var seen http.Header
		var body []byte
		endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = r.Header
			body, _ = io.ReadAll(r.Body)
			var token struct {
				AccessToken, UserID string
			}
			err := system.Exchange(r.Context(), http.DefaultClient, http.MethodPost, "http://"+n.Env.Get("BLOCKSD_PUBNUB_ORIGIN")+"/api/v1/auth/agent/consumer-token", "",
				map[string]string{"apiKey": n.Env.Get("BLOCKS_API_KEY")}, &token)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, `{"token":%q,"expiresIn":60,"userId":%q}`, token.AccessToken, token.UserID)
		}))
		defer endpoint.Close()
		defer http.DefaultClient.CloseIdleConnections()
		keyless := application{app.path, slices.DeleteFunc(slices.Clone(app.env), func(v string) bool { return strings.HasPrefix(v, "BLOCKS_API_KEY=") })}
		got, code, stderr := keyless.run(t, "-endpoint", endpoint.URL, "echo", "hello")
		if code != 0 || one(t, got, "client").User == "" {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		if seen.Get("X-Lab") != "1" || string(body) != `{"session":"s1"}` {
			t.Errorf("%v %s", seen, body)
		}
		if _, code, stderr := keyless.run(t, "echo", "hello"); code != 1 || !strings.Contains(stderr, "APIKey") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
	t.Run("pipe", func(t *testing.T) {
		failed, code, stderr := app.run(t, "-json", "-pipe", "15m", "scripted", `[{"status":"ready"},{"fail":"broken pipe"}]`)
		if end := one(t, failed, "end"); code != 1 || end.State != "failed" || end.Error != "broken pipe" || !strings.Contains(stderr, "ended as failed") {
			t.Errorf("exit %d: %s\n%+v", code, stderr, failed)
		}
		// A pipe runs its time, which the network's clock brings to an end here.
		ctx, cancel := context.WithTimeout(t.Context(), system.CallDeadline)
		defer cancel()
		cmd := exec.CommandContext(ctx, app.path, "-json", "-pipe", "15m", "scripted", `[{"status":"ready"}]`)
		cmd.Env = append(system.CleanEnv(), app.env...)
		stdout, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var all bytes.Buffer
		skip := func() {
			admin := "http://" + n.Env.Get("BLOCKSD_PUBNUB_ORIGIN") + "/_sandbox/clock"
			if err := system.Exchange(ctx, http.DefaultClient, http.MethodPut, admin, n.Env.Get("BLOCKSD_SANDBOX_TOKEN"), map[string]string{"skew": "15m1s"}, &struct{}{}); err != nil {
				t.Error(err)
			}
		}
		skipped := false
		for buf := make([]byte, 4096); ; {
			k, err := stdout.Read(buf)
			all.Write(buf[:k])
			if !skipped && strings.Contains(all.String(), `"ready"`) {
				skipped = true
				skip()
			}
			if err != nil {
				break
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, &all)
		}
		if end := one(t, parse(t, &all), "end"); end.State != "completed" || end.Completion != "duration_expired" {
			t.Errorf("%+v", end)
		}
	})
	t.Run("mistakes", func(t *testing.T) {
		for want, args := range map[string][]string{
			"whole minutes":    {"-pipe", "90s", "echo", "x"},
			"agent nobody":     {"nobody", "x"},
			"not valid JSON":   {"-json", "adder", "{"},
			"task task_none":   {"-connect", "task_none"},
			"the billing mode": {"-mode", "cheap", "echo", "x"},
			"no such file":     {"-file", "first=/nowhere", "echo", "x"},
			"letters, digits":  {"a b", "x"},
		} {
			if _, code, stderr := app.run(t, args...); code != 1 || !strings.Contains(stderr, want) || strings.Contains(stderr, "panic") {
				t.Errorf("%q: exit %d: %s", args, code, stderr)
			}
		}
	})
}
