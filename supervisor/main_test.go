package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/internal/testplugin"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// patience is how long a test waits for what must happen. It bounds hangs: a machine may stand still for a while.
const patience = 3 * time.Minute

// patient are the timeouts that a test is not about.
var patient = Timeouts{Handshake: patience, Describe: patience, Health: patience, Cancel: patience, LetGo: patience, Stop: patience, Kill: patience}

// over returns t with those of patient in place of zero members.
func over(t Timeouts) Timeouts {
	given, rest := reflect.ValueOf(&t).Elem(), reflect.ValueOf(patient)
	for i := range given.NumField() {
		if given.Field(i).IsZero() {
			given.Field(i).Set(rest.Field(i))
		}
	}
	return t
}

// plugins are the real handlers, built when the first test needs them.
var plugins = testplugin.New("echo", "badhandler", "sleeper")

func TestMain(m *testing.M) {
	launch.Shim(os.Args)
	testutil.ForbidCalls()
	if dir := os.Getenv("SUPERVISOR_TEST_DAEMON"); dir != "" {
		standInDaemon(dir)
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { plugins.Remove(); os.Exit(code) }))
}

// standInDaemon runs a fleet until it is killed: it prints the pids of its handlers once they are ready.
func standInDaemon(dir string) {
	f, err := New(Config{
		Log: slog.New(slog.DiscardHandler), RuntimeDir: filepath.Join(dir, "run"),
		Handlers: []HandlerConfig{{Name: "a", Path: filepath.Join(dir, "sleeper"), Instances: 2}, {Name: "b", Path: filepath.Join(dir, "echo")}},
	})
	if err != nil {
		panic(err)
	}
	go func() { _ = f.Run(context.Background()) }()
	for _, h := range []string{"a", "b"} {
		for a, changed := f.Availability(h); a != dispatch.Available; a, changed = f.Availability(h) {
			<-changed
		}
	}
	for _, s := range f.Status() {
		for _, p := range s.Processes {
			fmt.Println(p.PID)
		}
	}
	fmt.Println("all")
	select {}
}

// After the daemon is killed its handlers do not live on.
func TestNothingSurvivesTheDaemon(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SUPERVISOR_TEST_DAEMON="+plugins.Dir(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // ends the reading
	defer stuck.Stop()
	var pids []int
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "all" {
		if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if len(pids) < 2 {
		t.Fatalf("pids %v", pids)
	}
	for _, pid := range pids {
		waitGone(t, pid)
	}
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d ends", pid), func() bool { return !testutil.Alive(pid) })
}

// eventually polls for what no channel reports.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testutil.Eventually(t, patience, what, ok)
}

func within(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// ended waits for the result of a task.
func ended(t testing.TB, result <-chan error) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-time.After(patience):
		t.Fatal("the task does not end")
		return nil
	}
}

// fleet runs handlers named like their binaries, or "name-fault".
func fleet(t testing.TB, c Config, names ...string) *Fleet {
	t.Helper()
	for _, name := range names {
		base, _, _ := strings.Cut(name, "-")
		path := plugins.Path(t, base)
		if name != base {
			path = plugins.Alias(t, base, name)
		}
		c.Handlers = append(c.Handlers, HandlerConfig{Name: name, Path: path})
	}
	if c.Timeouts = over(c.Timeouts); c.Hold == 0 {
		c.Hold = patience
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.RuntimeDir == "" {
		dir, err := os.MkdirTemp("", "fleet")
		if err != nil {
			t.Fatal(err)
		}
		c.RuntimeDir = dir
		t.Cleanup(func() {
			if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			os.RemoveAll(dir)
		})
	}
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("the fleet does not stop")
		}
		for _, s := range f.Status() {
			if s.State != "stopped" || len(s.Processes) != 0 {
				t.Errorf("after the end: %+v", s)
			}
		}
	})
	return f
}

func become(t testing.TB, f *Fleet, handler string, want dispatch.Availability) {
	t.Helper()
	deadline := time.After(patience)
	for {
		a, changed := f.Availability(handler)
		if a == want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s is %v, not %v: %+v", handler, a, want, f.Status())
		}
	}
}

// port records what a task does; its zero value works.
type port struct {
	dispatch.NoStreams
	mu        sync.Mutex
	pid       int
	artifacts []string
	running   chan struct{}
}

func newPort() *port { return &port{running: make(chan struct{})} }

func (p *port) Dispatched(pid int) { p.mu.Lock(); defer p.mu.Unlock(); p.pid = pid }

func (p *port) Status(string) {
	select {
	case <-p.running:
	default:
		close(p.running)
	}
}

func (p *port) Artifact(_ context.Context, a wire.Artifact) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.artifacts = append(p.artifacts, string(a.Data))
	return nil
}

func (p *port) Input(context.Context, int) (dispatch.Input, error) {
	return dispatch.Input{Body: io.NopCloser(strings.NewReader(""))}, nil
}

func request(id, text string) *wire.Task {
	return &wire.Task{ID: id, Kind: wire.Request, Parts: []wire.Part{{PartID: "request", Text: &text}}}
}

func failure(t testing.TB, err error) *dispatch.TaskFailure {
	t.Helper()
	var f *dispatch.TaskFailure
	if !errors.As(err, &f) {
		t.Fatalf("no task failure: %v", err)
	}
	return f
}

// give gives a task to a process of the handler and returns its outcome.
func give(ctx context.Context, f *Fleet, handler string, task *wire.Task, port dispatch.TaskPort) error {
	outcome := make(chan error, 1)
	f.Start(ctx, handler, task, port, func(err error) { outcome <- err })
	return <-outcome
}

// begin starts a task and waits for its first status.
func begin(t testing.TB, f *Fleet, ctx context.Context, handler, id, text string) (*port, <-chan error) {
	t.Helper()
	p := newPort()
	result := make(chan error, 1)
	go func() { result <- give(ctx, f, handler, request(id, text), p) }()
	select {
	case <-p.running:
	case err := <-result:
		t.Fatalf("%s ended early: %v", text, err)
	case <-time.After(patience):
		t.Fatalf("%s does not run", text)
	}
	return p, result
}

func fleetLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
