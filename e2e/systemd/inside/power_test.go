package inside_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// left is where the tasks are that ran when the power went.
const left = "/var/tasks.json"

// leaveTasks starts tasks and leaves them to the power cut, which follows at once.
func leaveTasks(t *testing.T) {
	syscall.Sync() // what an operator has installed minutes ago is on the disk; what the daemon writes from here on is its own care
	tasks := submit(t, "10m")
	eventually(t, "all that take long run", func() bool { return status(t).Tasks.Running == sleepers })
	// The power goes for the daemon. A network that forgets its tasks is another matter: it writes them down with a delay.
	eventually(t, "the network has saved the tasks", func() bool {
		saved, err := os.ReadFile(networkState)
		return err == nil && !slices.ContainsFunc(tasks, func(task system.Submitted) bool { return !bytes.Contains(saved, []byte(task.ID)) })
	})
	keep(t, tasks)
}

// keep writes down which tasks there are, so that even a power cut does not lose it.
func keep(t *testing.T, tasks []system.Submitted) {
	t.Helper()
	b, err := json.Marshal(tasks)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(left)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil { // of the daemon's own files nothing is saved by us
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// kept returns the tasks that keep has written down.
func kept(t *testing.T) (tasks []system.Submitted) {
	t.Helper()
	b, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &tasks); err != nil || len(tasks) == 0 {
		t.Fatalf("%d tasks, %v", len(tasks), err)
	}
	return tasks
}

// endTasks: each task that the power cut hit has one end, and none is done again.
func endTasks(t *testing.T) {
	if count := ends(t, kept(t)); count["failed"] == 0 {
		t.Errorf("no task was hit: %v", count)
	}
	nothingWaits(t)
}

func nothingWaits(t *testing.T) {
	t.Helper()
	eventually(t, "no task runs and no outcome waits", func() bool {
		s := status(t)
		return s.Tasks.Running == 0 && s.Tasks.Outbox == 0
	})
}

// loadForReboot starts tasks and leaves them to a restart of the machine: some that end while the daemon drains, and some that
// would take longer.
func loadForReboot(t *testing.T) {
	long := submit(t, "10m")
	eventually(t, "all that take long run", func() bool { return status(t).Tasks.Running == sleepers })
	keep(t, append(long, submit(t, "3s")...))
}

// afterReboot: what could end has ended, the rest was canceled, each once, and nothing was lost.
func afterReboot(t *testing.T) {
	tasks := kept(t)
	count := ends(t, tasks)
	if count["canceled"] != sleepers || count["completed"] != len(tasks)-sleepers {
		t.Errorf("ends of %d tasks, of which %d take long: %v", len(tasks), sleepers, count)
	}
	nothingWaits(t)
}
