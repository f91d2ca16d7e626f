package plug

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// holdSockets keeps the sockets of a process open beyond its end.
func holdSockets(t *testing.T, pid int) {
	t.Helper()
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(process)
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, e := range fds {
		if target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name())); !strings.HasPrefix(target, "socket:") {
			continue
		}
		n, _ := strconv.Atoi(e.Name())
		fd, err := unix.PidfdGetfd(process, n, 0)
		if errors.Is(err, unix.EPERM) {
			t.Skip("machine: no socket of another process can be taken")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		held++
	}
	if held == 0 {
		t.Fatal("the process has no socket")
	}
}

// Something that holds the socket of a process which has ended holds up none of its tasks, kept ones included.
func TestHeldSocket(t *testing.T) {
	for _, kind := range []wire.TaskKind{wire.Request, wire.Pipe} {
		for _, text := range []string{"hang", "none"} {
			if kind == wire.Request && text == "none" {
				continue // it ends by itself
			}
			r := newFixture(t)
			r.Timeouts.LetGo = patience
			c := r.conn(t, "badhandler", "")
			task := request("t", text)
			task.Kind = kind
			p, kept := newPort(), make(chan struct{})
			outcome, released := make(chan error, 1), make(chan struct{})
			c.Start(t.Context(), task, asksPort{keptPort{p}, kept}, Hooks{Done: func(err error) { outcome <- err }, Released: func(bool) { close(released) }})
			if text == "hang" {
				wait(t, p.changed, "the task to run")
			} else {
				wait(t, kept, "the result")
			}
			holdSockets(t, c.PID())
			c.Kill()
			wait(t, released, "the end of the task")
			var f *dispatch.TaskFailure
			if err := <-outcome; !errors.As(err, &f) || f.Kind != dispatch.HandlerCrash {
				t.Errorf("%v %s: %v", kind, text, err)
			}
		}
	}
}
