package inside_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// neighbour is a second copy of the handler that attacks, which plays the victim.
const neighbour = "neighbour"

// addAgent registers the agent of a card, and waits until it is served.
func addAgent(t *testing.T, card string) {
	t.Helper()
	command{name: "blocksd", args: []string{"register", card}, env: network}.ok(t)
}

// variable returns what a process has in its environment.
func variable(t *testing.T, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		t.Fatal(err)
	}
	for kv := range strings.SplitSeq(string(b), "\x00") {
		if value, found := strings.CutPrefix(kv, name+"="); found {
			return value
		}
	}
	t.Fatalf("process %d has no variable %s", pid, name)
	return ""
}

// rowOf returns the row of a handler.
func rowOf(t *testing.T, name string) handler {
	t.Helper()
	for _, h := range handlerRows(t) {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("there is no handler %s", name)
	return handler{}
}

// wallsBetween: a handler sees nothing of another one's memory, files, processes and sockets, nor of the daemon's.
func wallsBetween(t *testing.T) {
	card, err := os.ReadFile(project + "/bin/testplugins/hostile.agent-card.json")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(handlers, neighbour+".agent-card.json")
	write(t, file, strings.Replace(string(card), `"hostile"`, `"`+neighbour+`"`, 1))
	addAgent(t, file)
	ok(t, "install", "-m", "0755", project+"/bin/testplugins/hostile", filepath.Join(handlers, neighbour))
	eventually(t, "the neighbour is served", func() bool {
		return strings.Contains(run(t, "blocksd", "status", "--json").out, `"name":"`+neighbour+`"`) ||
			strings.Contains(run(t, "blocksd", "status", "--json").out, `"name": "`+neighbour+`"`)
	})
	awaitReady(t)

	// A process with something to hide, and a file.
	said := strings.Fields(call(t, neighbour, `sh echo secret >"$HOME/mine" && { HIDDEN=secret sleep 3000 >/dev/null 2>&1 & echo $! "$HOME" $(id -u); }`))
	if len(said) < 3 {
		t.Fatalf("the neighbour says %q", said)
	}
	child, home, uid := said[0], said[1], said[2]
	victim := rowOf(t, neighbour).Processes[0].PID
	if n, err := strconv.Atoi(uid); err != nil || n < firstUser || n > lastUser {
		t.Errorf("the neighbour runs as user %s", uid)
	}
	if own := call(t, "hostile", "sh id -u"); strings.HasPrefix(own, uid) {
		t.Errorf("both handlers run as user %s", uid)
	}
	if _, err := os.Stat(home + "/mine"); err != nil && !strings.HasPrefix(home, "/tmp") {
		t.Errorf("the file that should be hidden is not there: %v", err)
	}
	var processes []string
	for _, pid := range []string{child, strconv.Itoa(victim), property(t, "MainPID")} {
		for _, what := range []string{"environ", "mem", "maps", "cmdline", "status", "root/etc/hostname"} {
			processes = append(processes, "/proc/"+pid+"/"+what)
		}
	}
	files := append(processes, home+"/mine", state+"/journal.db", state+"/journal.log", state+"/journal.key", state+"/users", state+"/lock",
		"/etc/blocksd/api-key", "/run/credentials/blocksd.service/blocks-api-key", "/etc/shadow", "/dev/nvme0n1")
	dirs := []string{home, state, "/run/blocksd", "/run/blocksd-launcher", "/run/credentials", "/root", "/proc/" + child + "/fd", "/proc/" + strconv.Itoa(victim) + "/fd"}
	got := call(t, "hostile", "sh for f in /proc/self/environ "+strings.Join(files, " ")+`; do head -c 1 "$f" >/dev/null 2>&1 && echo "open $f"; done
for d in /proc/self/fd `+strings.Join(dirs, " ")+`; do ls "$d" >/dev/null 2>&1 && echo "open $d"; done
for p in `+child+" "+strconv.Itoa(victim)+" "+property(t, "MainPID")+`; do kill -0 $p 2>/dev/null && echo "open signals to $p"; done
grep -rl secret /tmp /run/blocksd-launcher /dev/shm /var/tmp 2>/dev/null; true`)
	open := strings.Split(strings.TrimSpace(got), "\n")
	if len(open) != 3 || open[0] != "open /proc/self/environ" || open[1] != "open /proc/self/fd" {
		t.Errorf("the handler that attacks can open: %q", open)
	}

	// Sockets: those of the neighbour, of the daemon for the neighbour, of the daemon, of the launcher.
	sockets, err := filepath.Glob("/run/blocksd-launcher/p-*/*")
	if err != nil || len(sockets) == 0 {
		t.Fatalf("%d sockets, %v", len(sockets), err)
	}
	mine := filepath.Dir(variable(t, rowOf(t, "hostile").Processes[0].PID, "BLOCKSD_HOST_SOCKET"))
	tried := 0
	for _, socket := range append(sockets, "/run/blocksd/blocksd.sock", "/run/blocksd-launcher.sock", variable(t, victim, "BLOCKSD_HOST_SOCKET")) {
		if info, err := os.Stat(socket); err != nil || info.Mode()&os.ModeSocket == 0 || filepath.Dir(socket) == mine {
			continue
		}
		tried++
		if held := call(t, "hostile", fmt.Sprintf("connections %s 3", socket)); strings.TrimSpace(held) != "0" {
			t.Errorf("of 3 connections to %s the handler that attacks holds %q", socket, held)
		}
	}
	if tried < 4 {
		t.Errorf("only %d sockets were tried", tried)
	}
	for _, path := range []string{filepath.Join(handlers, neighbour), file} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	command{name: "blocksd", args: []string{"unregister", neighbour, "--yes"}, env: network}.ok(t)
	awaitReady(t)
}

// namedUser: a handler runs as the user that its configuration names, and writes where the launcher's unit allows that user to.
func namedUser(t *testing.T) {
	const dir, more = "/srv/worker", "/etc/systemd/system/blocksd-launcher.service.d/test.conf"
	ok(t, "useradd", "--system", "--no-create-home", "worker")
	ok(t, "install", "-d", "-o", "worker", "-g", "worker", "-m", "0700", dir)
	ok(t, "mkdir", "-p", filepath.Dir(more))
	write(t, more, "[Service]\nReadWritePaths="+dir+"\n")
	ok(t, "systemctl", "daemon-reload")
	write(t, settings, strings.Replace(configuration(""), "{name: hostile,", "{name: hostile, user: worker,", 1))
	ok(t, "systemctl", "restart", "blocksd")
	awaitReady(t)
	got := call(t, "hostile", "sh id -un; id -Gn; echo done >"+dir+"/file; cat "+dir+"/file")
	if !strings.HasPrefix(got, "worker\nworker\ndone\n") {
		t.Errorf("the handler says %q", got)
	}
	if owner := ok(t, "stat", "-c", "%U", dir+"/file"); owner != "worker" {
		t.Errorf("the file belongs to %s", owner)
	}
	if h := rowOf(t, "hostile"); h.Isolation != "user" {
		t.Errorf("its isolation is %q, %q", h.Isolation, h.IsolationOpen)
	}
	// Another one may not write there.
	if got := call(t, "echo", "hello"); !strings.Contains(got, "hello") {
		t.Errorf("echo answers %q", got)
	}
	if err := os.Remove(more); err != nil {
		t.Fatal(err)
	}
	ok(t, "systemctl", "daemon-reload")
	write(t, settings, configuration(""))
	ok(t, "systemctl", "restart", "blocksd")
	awaitReady(t)
}

// noWrittenCode: with the drop-in of the manual no handler can execute what it has written into memory, and handlers that need
// not do so go on.
func noWrittenCode(t *testing.T) {
	if got := call(t, "hostile", "code"); !strings.Contains(got, `got ["both at once" "written first"]`) {
		t.Errorf("with the units as they are: %q", got)
	}
	for _, line := range manual(t, "### Without just-in-time compilers")[0] {
		command{name: "sh", args: []string{"-c", line}, dir: project}.ok(t)
	}
	awaitReady(t)
	if got := call(t, "hostile", "code"); !strings.Contains(got, `got []`) {
		t.Errorf("with the drop-in: %q", got)
	}
	for _, agent := range []string{"echo", "adder"} {
		if h := rowOf(t, agent); h.State != "ready" || h.Isolation != "user" {
			t.Errorf("with the drop-in handler %s is %s, %s", agent, h.State, h.Isolation)
		}
	}
	if got := call(t, "echo", "hello"); !strings.Contains(got, "hello") {
		t.Errorf("echo answers %q", got)
	}
	for _, unit := range []string{"blocksd", "blocksd-launcher"} {
		if got := ok(t, "systemctl", "show", "-P", "MemoryDenyWriteExecute", unit); got != "yes" {
			t.Errorf("%s: MemoryDenyWriteExecute=%s", unit, got)
		}
		if err := os.Remove("/etc/systemd/system/" + unit + ".service.d/compiled.conf"); err != nil {
			t.Fatal(err)
		}
	}
	ok(t, "systemctl", "daemon-reload")
	ok(t, "systemctl", "restart", "blocksd")
	awaitReady(t)
}
