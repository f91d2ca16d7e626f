package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/network/wire"
)

// TestFullDisk: what cannot be written is reported, nothing that is on the disk is hurt, and once there is room again all
// that was decided meanwhile is written.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	var (
		mu    sync.Mutex
		files []*os.File // the store and its log
	)
	j := open(t, dir, func(c *Config) {
		c.Timeouts.Retry = 5 * time.Millisecond
		c.logBytes = 1 << 20
		c.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
			mu.Lock()
			defer mu.Unlock()
			if full() {
				return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOSPC}
			}
			file, err := os.OpenFile(name, flag, mode)
			files = append(files, file)
			return file, err
		}
	})
	b := agent(t, j, "worker")
	kept, written := accept(b, Task{ID: "kept"})
	wait(t, written)
	big, written := accept(b, Task{ID: "big", Message: make([]byte, 50_000)}) // so that the file has room of its own
	wait(t, written)
	big.Finish(Finished{ID: "big", Outcome: done, At: time.Now()})
	flush(t, j, b)

	mu.Lock()
	for _, file := range files {
		fill(t, file)
	}
	mu.Unlock()
	lost, written := accept(b, Task{ID: "lost", Timetoken: "2"})
	b.SetCursor(testChannel, "2")
	if err := result(t, written); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "no space left on device") {
		t.Fatalf("accepted with a full disk: %v", err)
	}
	changed, why := j.Health()
	if why == nil {
		t.Fatal("the journal feels well")
	}
	t.Log(why)
	outcome := wire.Terminal{State: wire.Failed, Error: "decided with a full disk"}
	if err := result(t, decide(kept, outcome)); err == nil {
		t.Error("decided with a full disk")
	}
	_ = decide(lost, done)
	for i := range 1000 { // tasks that are refused
		e, written := accept(b, Task{ID: fmt.Sprint("refused", i)})
		_ = decide(e, done)
		e.Finish(Finished{ID: fmt.Sprint("refused", i), Outcome: done, At: time.Now()})
		if result(t, written) == nil {
			t.Fatal("accepted with a full disk")
		}
	}
	unwritten := make(chan int, 1)
	b.Accept(Task{ID: "last"}, func(error) { unwritten <- len(j.unwritten) }) // called by the owner
	if n := <-unwritten; n > 10 {
		t.Errorf("%d posts are kept for tasks that were refused", n)
	}
	empty()
	for why != nil {
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatal("the journal does not recover")
		}
		changed, why = j.Health()
	}
	_, written = accept(b, Task{ID: "after", Timetoken: "3"})
	wait(t, written)
	shut(t, j)

	j = open(t, dir, nil)
	got := read(t, agent(t, j, "worker"))
	shut(t, j)
	var ids []string
	for _, o := range got.Open {
		ids = append(ids, o.Task.ID)
	}
	if diff := cmp.Diff([]string{"kept", "after"}, ids); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if o := got.Open[0].Outcome; o == nil || *o != outcome {
		t.Errorf("the outcome is %v", o)
	}
	if got.Cursor != "2" {
		t.Errorf("the cursor is %q", got.Cursor)
	}
}

// TestReadOnAFullDisk: a reader that finds the disk full has Health say so, as a writer does, and gets no old answer.
func TestReadOnAFullDisk(t *testing.T) {
	var files []*os.File // the store and its log; read only when nothing is opened
	j := open(t, t.TempDir(), func(c *Config) {
		c.Timeouts.Retry = 5 * time.Millisecond
		c.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
			if full() {
				return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOSPC}
			}
			file, err := os.OpenFile(name, flag, mode)
			files = append(files, file)
			return file, err
		}
	})
	b := agent(t, j, "worker")
	_, written := accept(b, Task{ID: "a"})
	wait(t, written)
	fill(t, files[0])
	if entries, err := b.Open(); err == nil {
		t.Errorf("read %d tasks", len(entries))
	}
	changed, why := j.Health()
	if why == nil {
		t.Error("the journal feels well")
	}
	empty()
	for why != nil {
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatal("the journal does not recover")
		}
		changed, why = j.Health()
	}
	if entries, err := b.Open(); err != nil || len(entries) != 1 {
		t.Errorf("read %d tasks, %v", len(entries), err)
	}
	shut(t, j)
}

func full() bool {
	disk.Lock()
	defer disk.Unlock()
	return disk.full
}

func empty() {
	disk.Lock()
	defer disk.Unlock()
	disk.full = false
}

func fill(t *testing.T, f *os.File) {
	t.Helper()
	sink, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	disk.Lock()
	defer disk.Unlock()
	disk.full = true
	if err := unix.Dup3(int(sink.Fd()), int(f.Fd()), unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskAtTheStart: a journal that could not be made is no damaged journal once there is room.
func TestFullDiskAtTheStart(t *testing.T) {
	dir := t.TempDir()
	half := func(path string, flag int, mode os.FileMode) (*os.File, error) {
		if err := os.WriteFile(path, make([]byte, 4096), mode); err != nil {
			return nil, err
		}
		return nil, &os.PathError{Op: "write", Path: path, Err: unix.ENOSPC}
	}
	_, err := Open(Config{Dir: dir, Secret: testSecret, OpenFile: half})
	says(t, err, "no space left on device", dir)
	if errors.Is(err, ErrUnusable) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk is not known as one: %v", err)
	}
	shut(t, open(t, dir, nil))
}
