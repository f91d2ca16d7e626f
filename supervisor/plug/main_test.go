package plug

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
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

// plugins are the real handlers, built when the first test needs them.
var plugins = testplugin.New("echo", "badhandler", "sleeper", "hostile")

func TestMain(m *testing.M) {
	launch.Shim(os.Args)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { plugins.Remove(); os.Exit(code) }))
}

type fixture struct {
	Config
	logs *testutil.Buffer
}

// patient are the timeouts that no test is about: a machine may stand still for a while.
var patient = Timeouts{Handshake: patience, Describe: patience, Health: patience, Cancel: patience, LetGo: patience, Stop: patience, Kill: patience}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	base, err := os.MkdirTemp("", "plug")
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := launch.OpenSocketDirs(base, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := launch.NewSpawner()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if left, _ := filepath.Glob(base + "/*"); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		os.RemoveAll(base)
	})
	l := &testutil.Buffer{}
	return &fixture{logs: l, Config: Config{
		Spawner: s, Dirs: dirs, Log: slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Environment: launch.Environment(os.Environ(), nil), Timeouts: patient,
	}}
}

// handler starts a handler; alias makes it misbehave at the start.
func (r *fixture) start(t testing.TB, name, alias string) (*Conn, error) {
	t.Helper()
	return r.startWith(t.Context(), t, name, alias)
}

func (r *fixture) startWith(ctx context.Context, t testing.TB, name, alias string) (*Conn, error) {
	t.Helper()
	c := r.Config
	c.Handler, c.Path = name, plugins.Path(t, name)
	if alias != "" {
		c.Handler, c.Path = name+"-"+alias, plugins.Alias(t, name, name+"-"+alias)
	}
	return Start(ctx, c)
}

func (r *fixture) conn(t testing.TB, name, alias string) *Conn {
	t.Helper()
	c, err := r.start(t, name, alias)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		wait(t, c.Done(), "the end of the process")
		c.Close()
	})
	return c
}

func wait(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
	}
}

// stop stops a process that ends by itself when it is asked to.
func stop(t testing.TB, c *Conn) {
	t.Helper()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if !c.Stop() {
			t.Error("not stopped")
		}
	}()
	wait(t, stopped, "the process to stop")
}

// port records what a handler does.
type port struct {
	dispatch.NoStreams
	mu        sync.Mutex
	pid       int
	statuses  []string
	artifacts []wire.Artifact
	changed   chan struct{} // closed at the next status
	over      bool          // Do has returned
	late      []string      // used after Do had returned
	inputs    map[int]dispatch.Input
	fail      error // of Artifact
	block     bool  // Artifact waits for its context
	blocked   chan struct{}
}

func newPort() *port { return &port{changed: make(chan struct{}), blocked: make(chan struct{}, 16)} }

func (p *port) note(what string) {
	if p.over {
		p.late = append(p.late, what)
	}
}

func (p *port) Dispatched(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note("dispatched")
	p.pid = pid
}

func (p *port) Status(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note("status")
	p.statuses = append(p.statuses, s)
	if len(p.statuses) == 1 {
		close(p.changed)
	}
}

func (p *port) Artifact(ctx context.Context, a wire.Artifact) error {
	if p.block {
		p.blocked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note("artifact")
	if a.Open != nil { // readable until this returns
		r, err := a.Reader()
		if err != nil {
			return err
		}
		if a.Data, err = io.ReadAll(r); err != nil {
			return err
		}
	}
	if p.fail == nil {
		p.artifacts = append(p.artifacts, a)
	}
	return p.fail
}

func (p *port) Input(_ context.Context, part int) (dispatch.Input, error) {
	in, ok := p.inputs[part]
	if !ok {
		return dispatch.Input{}, fmt.Errorf("part %d has no file", part)
	}
	return in, nil
}

func (p *port) texts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, a := range p.artifacts {
		out = append(out, string(a.Data))
	}
	return out
}

func request(id, text string) *wire.Task {
	return &wire.Task{ID: id, AgentName: "badhandler", Kind: wire.Request, Parts: []wire.Part{{PartID: "request", Text: &text}}}
}

// give gives a task to the process and returns its outcome.
func give(ctx context.Context, c *Conn, task *wire.Task, port dispatch.TaskPort, hooks Hooks) error {
	outcome := make(chan error, 1)
	hooks.Done = func(err error) { outcome <- err }
	c.Start(ctx, task, port, hooks)
	return <-outcome
}

// do runs one task and returns its port, its failure and whether the process let go of it.
func do(t testing.TB, c *Conn, id, text string) (*port, *dispatch.TaskFailure) {
	t.Helper()
	p := newPort()
	released := make(chan struct{})
	err := give(t.Context(), c, request(id, text), p, Hooks{Released: func(bool) { close(released) }})
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	wait(t, released, "the release of the task")
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.late) > 0 {
		t.Errorf("port used after Do had returned: %v", p.late)
	}
	if err == nil {
		return p, nil
	}
	var f *dispatch.TaskFailure
	if !errors.As(err, &f) {
		t.Fatalf("%s: error %T %v", text, err, err)
	}
	if f.Public == "" || strings.Contains(f.Public, "\n") {
		t.Errorf("%s: public text %q", text, f.Public)
	}
	return p, f
}

func body(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
