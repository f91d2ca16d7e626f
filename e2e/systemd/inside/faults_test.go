package inside_test

import (
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

const (
	state = "/var/lib/blocksd"
	group = "/sys/fs/cgroup/system.slice/blocksd.service"
)

// startsAtBoot: an enabled service serves without a hand.
func startsAtBoot(t *testing.T) {
	findNetwork(t)
	awaitReady(t)
	if got := call(t, "echo", "hello"); !strings.Contains(got, "hello") {
		t.Errorf("echo answers %q", got)
	}
}

// sleepers are how many of the tasks of submit take a while.
const sleepers = 5

// submit sends tasks that take a while, and short ones behind them.
func submit(t *testing.T, each string) []system.Submitted {
	t.Helper()
	ctx, c := consumer(t)
	var tasks []system.Submitted
	for i := range sleepers + 3 {
		agent, text := "sleeper", each
		if i >= sleepers {
			agent, text = "echo", "hello"
		}
		task, err := c.Submit(ctx, agent, text)
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	return tasks
}

// ends waits for the ends of tasks, sees that each has one, and counts them by state.
func ends(t *testing.T, tasks []system.Submitted) map[string]int {
	t.Helper()
	ctx, c := consumer(t)
	count := map[string]int{}
	for _, task := range tasks {
		end, err := c.Await(ctx, task)
		if err != nil {
			t.Fatal(err)
		}
		count[end.State]++
	}
	awaitReady(t)
	for _, task := range tasks {
		once(ctx, t, c, task)
	}
	return count
}

// running waits until a handler works on one of the tasks, as their consumer sees it.
func running(t *testing.T, tasks []system.Submitted) {
	t.Helper()
	ctx, c := consumer(t)
	eventually(t, "tasks run", func() bool {
		for _, task := range tasks {
			events, err := c.History(ctx, task)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(events, func(e system.Event) bool { return e.Type == "progress" && e.State == "running" }) {
				return true
			}
		}
		return false
	})
}

// restarted waits until systemd has started the daemon again, and it is ready.
func restarted(t *testing.T, before string) {
	t.Helper()
	eventually(t, "the daemon is started again", func() bool {
		pid := property(t, "MainPID")
		return pid != before && pid != "0" && property(t, "ActiveState") == "active"
	})
	awaitReady(t)
}

// pidsOf returns the processes of all handlers.
func pidsOf(t *testing.T) map[int]string {
	t.Helper()
	pids := map[int]string{}
	for _, h := range handlerRows(t) {
		for _, p := range h.Processes {
			pids[p.PID] = h.Name
		}
	}
	return pids
}

func signal(t *testing.T, pid string, sig syscall.Signal) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err == nil {
		err = syscall.Kill(n, sig)
	}
	if err != nil {
		t.Fatalf("signal process %s: %v", pid, err)
	}
}

// killed: SIGKILL under load. Each task has one outcome, and nothing of the old daemon is left.
func killed(t *testing.T) {
	old, before := pidsOf(t), property(t, "MainPID")
	tasks := submit(t, "20s")
	running(t, tasks)
	signal(t, before, syscall.SIGKILL)
	restarted(t, before)
	if count := ends(t, tasks); count["failed"] == 0 {
		t.Errorf("no task was hit: %v", count)
	}
	for pid, name := range old {
		if system.Alive(pid) {
			t.Errorf("process %d of handler %s outlived its daemon", pid, name)
		}
	}
	dirs, err := filepath.Glob("/run/blocksd-launcher/p-*")
	if now := pidsOf(t); err != nil || len(dirs) != len(now) {
		t.Errorf("%d handler processes have %d directories, %v", len(now), len(dirs), err)
	}
}

// hangs: systemd's watchdog, as the unit sets it, ends a daemon that does not answer.
func hangs(t *testing.T) {
	write(t, moreTime, timeToStart)
	defer write(t, moreTime, timeToStart+timeToAnswer) // from the next start on
	ok(t, "systemctl", "daemon-reload")
	ok(t, "systemctl", "restart", "blocksd")
	awaitReady(t)
	since, before := now(), property(t, "MainPID")
	signal(t, before, syscall.SIGSTOP)
	restarted(t, before)
	if said := ok(t, "journalctl", "-u", "blocksd", "--no-pager", "-o", "cat", "--since="+since); !strings.Contains(said, "Watchdog timeout") {
		t.Errorf("it was not the watchdog:\n%s", said)
	}
	if got := call(t, "echo", "hello"); !strings.Contains(got, "hello") {
		t.Errorf("echo answers %q", got)
	}
}

// The users of handlers, which the unit of the launcher names.
const firstUser, lastUser = 60600, 61183

// processes returns what runs as the user blocksd or as one of handlers.
func processes(t *testing.T) (names []string) {
	t.Helper()
	owner, err := user.Lookup("blocksd")
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("%d processes, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		// The owner of the directory would not do: it is root for a process that may not be dumped.
		b, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue // it has ended meanwhile
		}
		m := regexp.MustCompile(`(?s)Name:\t(\S+).*\nUid:\t(\d+)`).FindSubmatch(b)
		if m == nil {
			continue
		}
		if uid, err := strconv.Atoi(string(m[2])); err == nil && (string(m[2]) == owner.Uid || uid >= firstUser && uid <= lastUser) {
			names = append(names, filepath.Base(dir)+" "+string(m[1]))
		}
	}
	return names
}

// stopDrains: tasks that run end, and nothing is left.
func stopDrains(t *testing.T) {
	tasks := submit(t, "5s")
	running(t, tasks)
	ok(t, "systemctl", "stop", "blocksd")
	if result, code := property(t, "Result"), property(t, "ExecMainStatus"); result != "success" || code != "0" {
		t.Errorf("the stop ends as %s with status %s", result, code)
	}
	if left := processes(t); len(left) > 0 {
		t.Errorf("there are still %q", left)
	}
	if _, err := os.Stat(group); err == nil {
		t.Errorf("its control group is still there")
	}
	ok(t, "systemctl", "start", "blocksd")
	if count := ends(t, tasks); count["completed"] != len(tasks) {
		t.Errorf("ends: %v", count)
	}
}

// noCredential: one try, and the journal says which file.
func noCredential(t *testing.T) {
	const key = "/etc/blocksd/api-key"
	since := now()
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "systemctl", "restart", "blocksd"); r.code == 0 {
		t.Error("a start without the key succeeds")
	}
	rests(t, "243", since, key)
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	ok(t, "systemctl", "start", "blocksd")
	awaitReady(t)
}

// damagedJournal: one try, and the manual's own commands help.
func damagedJournal(t *testing.T) {
	ok(t, "systemctl", "stop", "blocksd")
	ok(t, "dd", "if=/dev/urandom", "of="+state+"/journal.db", "bs=4096", "count=64", "conv=notrunc", "status=none")
	since := now()
	if r := run(t, "systemctl", "start", "blocksd"); r.code == 0 {
		t.Error("a start with a damaged journal succeeds")
	}
	rests(t, "78", since, state+"/journal.db")
	followed := false
	for _, block := range manual(t, "## The state directory") {
		for _, line := range block {
			followed = followed || strings.HasPrefix(line, "mv "+state+"/journal.db ")
			ok(t, "sh", "-c", line)
		}
	}
	if !followed {
		t.Error("the manual does not say how to move the journal away")
	}
	awaitReady(t)
}

// fullDisk: the daemon waits for space and then starts, without a restart.
func fullDisk(t *testing.T) {
	ok(t, "systemctl", "stop", "blocksd")
	var disk syscall.Statfs_t
	if err := syscall.Statfs(state, &disk); err != nil {
		t.Fatal(err)
	}
	const filler = "/var/filler"
	defer os.Remove(filler)
	// All that others than root may use.
	ok(t, "fallocate", "-l", strconv.FormatInt(int64(disk.Bavail)*int64(disk.Bsize), 10), filler)
	ok(t, "systemctl", "start", "--no-block", "blocksd")
	eventually(t, "systemctl status says that there is no space", func() bool {
		return regexp.MustCompile(`(?i)space|room|full`).MatchString(property(t, "StatusText"))
	})
	t.Logf("StatusText is %q", property(t, "StatusText"))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	awaitReady(t)
	if restarts := property(t, "NRestarts"); restarts != "0" {
		t.Errorf("%s restarts", restarts)
	}
}

// revokedKey: a daemon whose key is refused for good ends with 3 and stays down, until it has another one.
func revokedKey(t *testing.T) {
	ctx, _ := consumer(t)
	admin := func(method, path string, body, result any) {
		t.Helper()
		url := "http://" + network.Get("BLOCKSD_PUBNUB_ORIGIN") + "/_sandbox/" + path
		if err := system.Exchange(ctx, httpClient(t), method, url, network.Get("BLOCKSD_SANDBOX_TOKEN"), body, result); err != nil {
			t.Fatal(err)
		}
	}
	key := func(text string) {
		t.Helper()
		command{name: "install", args: []string{"-m", "0600", "/dev/stdin", "/etc/blocksd/api-key"}, stdin: text + "\n"}.ok(t)
	}
	var made struct{ ID, APIKey string }
	admin("POST", "keys", map[string]string{"orgId": "org_1", "name": "second"}, &made)
	key(made.APIKey)
	ok(t, "systemctl", "restart", "blocksd")
	awaitReady(t)
	since := now()
	admin("DELETE", "keys/"+made.ID, nil, &struct{}{})
	ok(t, "systemctl", "restart", "blocksd")
	rests(t, "3", since, "key")
	key(network.Get("BLOCKS_API_KEY"))
	ok(t, "systemctl", "start", "blocksd")
	awaitReady(t)
}

// noRunDirectory: the daemon drains, and systemd makes the directory again.
func noRunDirectory(t *testing.T) {
	since, before := now(), property(t, "MainPID")
	if err := os.RemoveAll("/run/blocksd"); err != nil {
		t.Fatal(err)
	}
	restarted(t, before)
	if said := ok(t, "journalctl", "-u", "blocksd", "--no-pager", "-o", "cat", "--since="+since); strings.Contains(said, "Watchdog timeout") {
		t.Errorf("it took the watchdog:\n%s", said)
	}
}
