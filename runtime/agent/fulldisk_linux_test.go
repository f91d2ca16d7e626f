package agent

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
)

// TestFullDisk: with a disk that takes nothing more the agent says so, takes no more tasks, and lets those that run end
// with their own outcome; once there is room it goes on by itself.
func TestFullDisk(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	var (
		mu    sync.Mutex
		files []*os.File // the store and its log
		full  bool
	)
	dir := t.TempDir()
	j, err := journal.Open(journal.Config{
		Dir: dir, Secret: bytes.Repeat([]byte("k"), 32), Timeouts: journal.Timeouts{Retry: 5 * time.Millisecond},
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			mu.Lock()
			defer mu.Unlock()
			if full {
				return nil, &os.PathError{Op: "open", Path: name, Err: unix.ENOSPC}
			}
			file, err := os.OpenFile(name, flag, mode)
			files = append(files, file)
			return file, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	a := n.serve(cardOf(t, "worker", 4, ""), st, withJournal(j))
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	running := st.next(t)
	n.awaitRunning("t1")

	// The file /dev/full of the kernel takes the place of the journal's files.
	mu.Lock()
	full = true
	sink, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err == nil {
		for _, file := range files {
			err = errors.Join(err, unix.Dup3(int(sink.Fd()), int(file.Fd()), unix.O_CLOEXEC))
		}
		sink.Close()
	}
	mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	a.control(startTask("t2", "")) // finds out
	if e := n.terminal("t2"); e.Error != wire.ReasonAtCapacity {
		t.Errorf("t2 ended %s %s", e.State, e.Error)
	}
	a.await(StateConnecting)
	if why := a.Status().Reason; !strings.Contains(why, "no space left on device") || !strings.Contains(why, dir) {
		t.Errorf("the reason is %q", why)
	}
	eventually(t, "the network knows that the agent is full", func() bool {
		state, there := n.present(a.channelName(), a.cfg.InstanceID)
		return there && state.ActiveTasks == state.Concurrency
	})
	a.broadcast(startTask("t3", "")) // another instance may take it
	a.control(startTask("t4", ""))
	n.terminal("t4")
	running.result <- nil
	n.terminal("t1")

	mu.Lock()
	full = false
	mu.Unlock()
	a.await(StateOnline)
	a.control(startTask("t5", ""))
	st.next(t).result <- nil
	n.terminal("t5")
	n.same("t1", "running completed")
	n.same("t2", "failed:agent_at_capacity")
	n.same("t3", "")
	n.same("t4", "failed:agent_at_capacity")
	n.same("t5", "running completed")
	st.none(t)
	if c := a.Status().Counts; c.Accepted != 2 || c.Completed != 2 || c.Refused != 2 {
		t.Errorf("counts %+v", c)
	}
	if s := a.Status(); s.Running != 0 {
		t.Errorf("%d slots are taken", s.Running)
	}
}
