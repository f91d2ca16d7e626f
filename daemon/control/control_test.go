package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/blocksd/blocksd/internal/testutil"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fakeDaemon struct {
	canceled []string
	drains   chan struct{} // gets a value when a drain begins, unless it is nil
}

func (f *fakeDaemon) Drain(ctx context.Context) error {
	if f.drains != nil {
		f.drains <- struct{}{}
	}
	<-ctx.Done()
	return ctx.Err()
}
func (f *fakeDaemon) Undrain() {}

func (f *fakeDaemon) Reload(context.Context) (*controlv1.ReloadResponse, error) {
	return &controlv1.ReloadResponse{Changes: []*controlv1.ConfigChange{{Key: "drain", Needs: "live", Old: "1s", New: "2s"}}}, nil
}

func (f *fakeDaemon) ShowConfig() []*controlv1.ConfigValue {
	return []*controlv1.ConfigValue{{Key: "drain", Value: "2s", Source: "default"}}
}

func (f *fakeDaemon) SetLogLevel(level string) (string, error) {
	if level != "debug" {
		return "", errors.New("the level is wrong")
	}
	return "info", nil
}

func (f *fakeDaemon) Dump() (*controlv1.DumpResponse, error) {
	return &controlv1.DumpResponse{Goroutines: []byte("goroutine 1"), Counts: []*controlv1.DumpCount{{Name: "goroutines", Value: 1}}}, nil
}

// Events sends two events, of which the second tells whether it was asked to follow; then it ends.
func (f *fakeDaemon) Events(_ context.Context, req *controlv1.EventsRequest, send func(EncodedItems) error) error {
	if req.GetSince() > 2 {
		return FutureError{Since: req.GetSince(), Latest: 2}
	}
	event := func(seq uint64, state string) *controlv1.EventItem {
		return &controlv1.EventItem{Item: &controlv1.EventItem_Event{Event: &controlv1.Event{Seq: seq, Type: "notice", State: state}}}
	}
	missed := &controlv1.EventItem{Item: &controlv1.EventItem_Missed{Missed: 7}}
	encode := func(items ...*controlv1.EventItem) (out EncodedItems) {
		for _, i := range items {
			out, _ = out.AppendItem(i)
		}
		return out
	}
	if err := send(encode(missed, event(8, ""))); err != nil {
		return err
	}
	return send(encode(event(9, fmt.Sprint(req.GetFollow())+"\xff")))
}

func (f *fakeDaemon) RestartHandler(_ context.Context, name string) error {
	if name == "bad" {
		return errors.New("handler bad does not start")
	}
	if name != "echo" {
		return ErrNoHandler
	}
	return nil
}

func (f *fakeDaemon) RollbackHandler(ctx context.Context, name string) (string, error) {
	return "0123", f.RestartHandler(ctx, name)
}

func (f *fakeDaemon) AssignAgent(ctx context.Context, name, _ string) error {
	return f.RestartHandler(ctx, name)
}

func (f *fakeDaemon) Status() *controlv1.StatusResponse {
	return &controlv1.StatusResponse{Ready: true, Version: "v", Pid: 7}
}
func (f *fakeDaemon) Handlers() []*controlv1.Handler {
	return []*controlv1.Handler{{Name: "echo", State: "ready"}}
}
func (f *fakeDaemon) Tasks() []*controlv1.Task { panic("a mistake") }
func (f *fakeDaemon) Logs(context.Context, *controlv1.LogsRequest, func(*controlv1.LogsResponse) error) error {
	panic("a mistake")
}
func (f *fakeDaemon) CancelTask(ctx context.Context, id string) error {
	switch id {
	case "none":
		return ErrNoTask
	case "slow":
		return context.DeadlineExceeded
	}
	f.canceled = append(f.canceled, id)
	return nil
}

// serve runs a server until the test ends and returns its socket.
func serve(t *testing.T, d Daemon, uid uint32) string { return serveGroup(t, d, uid, Group{}) }

// serveGroup does the same with a group of operators.
func serveGroup(t *testing.T, d Daemon, uid uint32, operators Group) string {
	t.Helper()
	return serveAll(t, d, uid, operators, nil)
}

// serveOwned is serve for a daemon with handlers.
func serveOwned(t *testing.T, d Daemon, uid uint32, owned func(int) bool) string {
	t.Helper()
	return serveAll(t, d, uid, Group{}, owned)
}

func serveAll(t *testing.T, d Daemon, uid uint32, operators Group, owned func(int) bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(ServerConfig{Listener: l, Daemon: d, Log: slog.New(slog.DiscardHandler), UID: uid, Owned: owned, Operators: func() Group { return operators }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return path
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCalls(t *testing.T) {
	f := &fakeDaemon{}
	path := serve(t, f, UID())
	c := dial(t, path)
	s, err := c.Status(t.Context())
	if d := cmp.Diff(f.Status(), s, protocmp.Transform()); d != "" || err != nil {
		t.Error(d, err)
	}
	h, err := c.Handlers(t.Context())
	if d := cmp.Diff(f.Handlers(), h, protocmp.Transform()); d != "" || err != nil {
		t.Error(d, err)
	}
	if err := c.CancelTask(t.Context(), "t1"); err != nil || len(f.canceled) != 1 {
		t.Error(err, f.canceled)
	}
	wantError(t, c.CancelTask(t.Context(), "none"), "cancel task none on the daemon at "+path+`: no task "none" runs here: see blocksd tasks`)
	wantError(t, c.CancelTask(t.Context(), "slow"), "cancel task slow on the daemon at "+path+": the handler of task slow did not take the cancel in time")
	wantError(t, c.CancelTask(t.Context(), ""), "cancel task  on the daemon at "+path+": the task id is empty")
	err = c.Logs(t.Context(), &controlv1.LogsRequest{}, nil) // panics in the daemon
	wantError(t, err, "ask for the logs of the daemon at "+path+": the daemon failed to answer: see its log")
	_, err = c.Tasks(t.Context()) // panics in the daemon
	wantError(t, err, "ask for the tasks of the daemon at "+path+": the daemon failed to answer: see its log")
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("the daemon did not survive a panic: %v", err)
	}
	want, _ := f.Reload(t.Context())
	if r, err := c.Reload(t.Context()); err != nil || cmp.Diff(want, r, protocmp.Transform()) != "" {
		t.Error(r, err)
	}
	if values, err := c.ShowConfig(t.Context()); err != nil || cmp.Diff(f.ShowConfig(), values, protocmp.Transform()) != "" {
		t.Error(values, err)
	}
	if previous, err := c.SetLogLevel(t.Context(), "debug"); err != nil || previous != "info" {
		t.Error(previous, err)
	}
	_, err = c.SetLogLevel(t.Context(), "loud")
	wantError(t, err, "set the log level of the daemon at "+path+": the level is wrong")
	if dump, err := c.Dump(t.Context()); err != nil || string(dump.GetGoroutines()) != "goroutine 1" {
		t.Error(dump, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket %v, %v", info.Mode(), err)
	}
}

func TestEvents(t *testing.T) {
	path := serve(t, &fakeDaemon{}, UID())
	c := dial(t, path)
	var got []string
	err := c.Events(t.Context(), &controlv1.EventsRequest{Follow: true}, func(i *controlv1.EventItem) error {
		got = append(got, fmt.Sprintf("%d %d %s", i.GetMissed(), i.GetEvent().GetSeq(), i.GetEvent().GetState()))
		return nil
	})
	if d := cmp.Diff([]string{"7 0 ", "0 8 ", "0 9 true\uFFFD"}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	since := uint64(3)
	err = c.Events(t.Context(), &controlv1.EventsRequest{Since: &since}, nil)
	wantError(t, err, "ask for the events of the daemon at "+path+": event 3 has not happened yet: it has counted 2 since it started, so it may have been restarted meanwhile: leave --since out")
	err = c.Events(t.Context(), &controlv1.EventsRequest{Last: -1}, nil)
	wantError(t, err, "ask for the events of the daemon at "+path+": the number of past events must not be negative")
	broken := errors.New("broken pipe")
	if err := c.Events(t.Context(), &controlv1.EventsRequest{}, func(*controlv1.EventItem) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// A peer that is neither root nor the daemon's user may read only. The test plays it by telling the server that the
// daemon has another user, which cannot be done as root.
func TestOthersMayOnlyRead(t *testing.T) {
	if p, ok := peerOf(t.Context()); ok {
		t.Errorf("a call without connection has the peer %v", p)
	}
	f := &fakeDaemon{}
	path := serve(t, f, UID()+1)
	c := dial(t, path)
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	err := c.CancelTask(t.Context(), "t1")
	if UID() == 0 {
		if err != nil {
			t.Errorf("root is refused: %v", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "may read but not change anything") {
		t.Errorf("another user may cancel: %v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none")
	_, err := Dial(t.Context(), missing)
	wantError(t, err, "ask the daemon at "+missing+": there is no such socket: start a daemon, or name its socket with --socket or BLOCKSD_SOCKET")
	stale := staleSocket(t, dir)
	_, err = Dial(t.Context(), stale)
	wantError(t, err, "ask the daemon at "+stale+": no daemon answers there any more: start one, or name its socket with --socket or BLOCKSD_SOCKET")
	long := "/" + strings.Repeat("s", 120)
	_, err = Dial(t.Context(), long)
	wantError(t, err, "ask the daemon at "+long+": the path is too long for a Unix socket: name another with --socket or BLOCKSD_SOCKET")
}

// staleSocket leaves a socket that nobody listens on, as a killed daemon does.
func staleSocket(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	return path
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	stale := staleSocket(t, dir)
	l, err := Listen(t.Context(), stale)
	if err != nil {
		t.Fatalf("a stale socket is not replaced: %v", err)
	}
	_, err = Listen(t.Context(), stale)
	wantError(t, err, "open control socket "+stale+": another daemon answers on it: stop that one or choose another path with --socket")
	l.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Listen(t.Context(), file)
	wantError(t, err, "open control socket "+file+": there is a file of another kind: remove it or choose another path with --socket")
	_, err = Listen(t.Context(), filepath.Join(file, "s"))
	if err == nil || !strings.Contains(err.Error(), "make its directory") {
		t.Errorf("got %v", err)
	}
	deep := filepath.Join(dir, "a", "s")
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	l, err = Listen(t.Context(), deep)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(filepath.Dir(deep)); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("mode of the directory %v, %v", info.Mode(), err)
	}
}

// A socket that was removed is made again, with its directory, and calls that were under way go on.
func TestRemovedSocketIsMadeAgain(t *testing.T) {
	path := serve(t, &fakeDaemon{}, UID())
	before := dial(t, path)
	for _, gone := range []string{path, filepath.Dir(path)} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, 3*time.Minute, "the daemon answers there again", func() bool {
			c, err := Dial(t.Context(), path) // refused between bind and listen
			if err != nil {
				return false
			}
			defer c.Close()
			return c.Ping(t.Context()) == nil
		})
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != socketMode {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	if err := before.Ping(t.Context()); err != nil {
		t.Errorf("the old connection: %v", err)
	}
}

// A socket that cannot be made again is said once.
func TestLostSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	l, err := Listen(t.Context(), filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	var log testutil.Buffer
	lost := make(chan struct{}, 10)
	s, err := NewServer(ServerConfig{Listener: l, Daemon: &fakeDaemon{}, Log: slog.New(slog.NewTextHandler(&log, nil)), UID: UID(), OnLost: func() { lost <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil { // where a directory cannot be made
		t.Fatal(err)
	}
	<-lost
	cancel()
	if err := <-done; err != nil || len(lost) > 0 || strings.Count(log.String(), "cannot be made again") != 1 {
		t.Errorf("run %v, lost again %d times, log %s", err, len(lost), log.String())
	}
}
