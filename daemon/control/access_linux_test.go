package control

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// connectAs connects to a socket as another user. The kernel notes the user of the thread that connects, so one thread
// changes its user, connects, and ends: it is never unlocked.
func connectAs(t *testing.T, path string, uid int, groups ...uint32) net.Conn {
	t.Helper()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		gids := append([]uint32{uint32(uid)}, groups...) // system calls on this thread alone, unlike those of package syscall
		if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(gids)), uintptr(unsafe.Pointer(&gids[0])), 0); errno != 0 {
			done <- result{err: errno}
			return
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- result{err: errno}
			return
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			done <- result{err: errno}
			return
		}
		conn, err := net.Dial("unix", path)
		done <- result{conn, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatalf("connect to %s as user %d: %v", path, uid, r.err)
	}
	return r.conn
}

// TestOtherUsers calls every kind of method as a user who is neither root nor the daemon's, and as the daemon's own.
func TestOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	const own, stranger, operator, group = 54398, 54399, 54400, 54397
	d := &fakeDaemon{drains: make(chan struct{}, 1)}
	path := serveGroup(t, d, own, Group{Name: "ops", GID: group})
	// Let everybody reach the socket: the file, and the two directories that t.TempDir makes.
	for _, p := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	client := func(uid int, groups ...uint32) *Client {
		c, err := newClient(path, connectAs(t, path, uid, groups...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	const refused = "user 54399 may read but not change anything: be root, user 54398 or in the group ops"

	t.Run("a stranger", func(t *testing.T) {
		c := client(stranger)
		if _, err := c.Status(t.Context()); err != nil {
			t.Error(err)
		}
		wantError(t, c.CancelTask(t.Context(), "t1"), "cancel task t1 on the daemon at "+path+": "+refused)
		wantError(t, c.Undrain(t.Context()), "undrain the daemon at "+path+": "+refused)
		err := c.Logs(t.Context(), &controlv1.LogsRequest{}, nil) // may read; this daemon panics
		wantError(t, err, "ask for the logs of the daemon at "+path+": the daemon failed to answer: see its log")
		if err := c.Events(t.Context(), &controlv1.EventsRequest{}, func(*controlv1.EventItem) error { return nil }); err != nil {
			t.Error(err)
		}
		if _, err := c.ShowConfig(t.Context()); err != nil {
			t.Error(err)
		}
		_, err = c.Reload(t.Context())
		wantError(t, err, "reload the configuration of the daemon at "+path+": "+refused)
		_, err = c.SetLogLevel(t.Context(), "debug")
		wantError(t, err, "set the log level of the daemon at "+path+": "+refused)
		_, err = c.Dump(t.Context())
		wantError(t, err, "ask for a dump of the daemon at "+path+": "+refused)
	})
	// Every method, as each kind of user.
	for _, who := range []struct {
		name    string
		connect func() *Client
		all     bool // may do everything
	}{
		{"a stranger", func() *Client { return client(stranger) }, false},
		{"a stranger in another group", func() *Client { return client(stranger, group+1) }, false},
		{"an operator", func() *Client { return client(operator, group) }, true},
		{"the daemon's user", func() *Client { return client(own) }, true},
		{"root", func() *Client { return dial(t, path) }, true},
	} {
		t.Run(who.name+" calls every method", func(t *testing.T) {
			c := who.connect()
			for name := range methods() {
				waits := who.all && name == controlv1.ControlService_Drain_FullMethodName // this daemon never drains
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				if waits {
					go func() {
						select {
						case <-d.drains:
							cancel()
						case <-ctx.Done():
						}
					}()
				}
				call, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, name)
				if err != nil {
					t.Fatal(err)
				}
				_ = call.SendMsg(&controlv1.StatusRequest{}) // every request may be empty; the answer says what failed
				err = call.RecvMsg(&controlv1.StatusRequest{})
				if refused := status.Code(err) == codes.PermissionDenied; refused == (who.all || isReading(name)) || ctx.Err() != nil && !waits {
					t.Errorf("%s: %v", name, err)
				}
				cancel()
			}
		})
	}
	t.Run("a stranger in other groups", func(t *testing.T) {
		wantError(t, client(stranger, 1, group+1).Undrain(t.Context()), "undrain the daemon at "+path+": "+refused)
	})
	t.Run("an operator", func(t *testing.T) {
		if err := client(operator, 1, group).Undrain(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("the daemon's user", func(t *testing.T) {
		if err := client(own).CancelTask(t.Context(), "t1"); err != nil {
			t.Error(err)
		}
	})
	t.Run("root", func(t *testing.T) {
		if err := dial(t, path).CancelTask(t.Context(), "t1"); err != nil {
			t.Error(err)
		}
	})
}
