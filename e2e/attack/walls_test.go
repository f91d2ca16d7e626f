package attack

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// ground is a daemon with a hostile handler and an echo, behind walls of one kind.
type ground struct {
	*system.Network
	level, state, socket, key string
	daemon, victim            int
	secrets                   []string // what must not be seen
}

// launched is the level of a daemon that is not root and has a launcher.
const launched = "user by a launcher"

// startLauncher runs a launcher for a daemon's user, and returns its socket and a control group for that daemon.
func startLauncher(t *testing.T, dir, program string, uid int) (socket, group string) {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		group = filepath.Join(mount, "blocksd-attack-"+strconv.Itoa(os.Getpid()))
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err == nil && os.Mkdir(group, 0o755) == nil {
			break
		}
		group = ""
	}
	if group == "" {
		t.Skip("machine: control groups of version 2 cannot be made")
	}
	t.Cleanup(func() {
		for _, g := range []string{filepath.Join(group, "handlers"), group} {
			if err := os.Remove(g); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the control group is left: %v", err)
			}
		}
	})
	socket, dirs := filepath.Join(dir, "l"), filepath.Join(dir, "dirs")
	for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
		if err := os.Chown(filepath.Join(group, file), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(dirs, 0o700), os.Chown(dirs, 0, uid), syscall.Chmod(dirs, 0o3771)); err != nil {
		t.Fatal(err)
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("machine: setpriv is not installed")
	}
	// Root with the rights that the unit leaves it.
	p := bin.StartAs(t, setpriv, nil, 0, "--regid", strconv.Itoa(uid), "--clear-groups", "--inh-caps=-all", "--bounding-set=-all,+setuid,+setgid,+kill,+setpcap", "--no-new-privs",
		program, "launcher", "--socket", socket, "--dirs", dirs, "--daemon-user", strconv.Itoa(uid))
	system.Eventually(t, system.StartDeadline, "the launcher listens", func() bool { _, err := os.Stat(socket); return err == nil || p.Exited() })
	if err := os.Chown(socket, uid, uid); err != nil {
		t.Fatal(err)
	}
	return socket, group
}

// start runs a daemon as a user, with a key file, at a level.
func start(t *testing.T, uid int, level string) ground {
	t.Helper()
	own := uid == os.Geteuid()
	if os.Geteuid() != 0 && (!own || level == launched) {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	dirs := t.TempDir()
	passable(t, dirs)
	g := ground{level: level, state: filepath.Join(dirs, "state"), key: filepath.Join(dirs, "secrets", "api-key")}
	g.socket = filepath.Join(g.state, "s")
	_, env := bin.Sandbox(t, bin.Plugins(), "--agents", plugins(t))
	apiKey := env.Get("BLOCKS_API_KEY")
	program, config, handlers := filepath.Join(dirs, "blocksd"), filepath.Join(dirs, "blocksd.yaml"), plugins(t)
	b, err := os.ReadFile(bin.Blocksd())
	if err != nil {
		t.Fatal(err)
	}
	passable(t, handlers)
	isolation := "level: " + level + ", cgroup: \"off\""
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if level == launched {
		level = "user"
		socket, group := startLauncher(t, dirs, program, uid)
		isolation = "level: user, cgroup: " + group + ", launcher: " + socket
	}
	gid := uid
	if own {
		gid = -1
	}
	for _, err := range []error{
		os.Mkdir(g.state, 0o700), os.Mkdir(filepath.Dir(g.key), 0o700), os.WriteFile(g.key, []byte(apiKey+"\n"), 0o600),
		os.WriteFile(config, []byte("network: {api_key_file: "+g.key+"}\nisolation: {"+isolation+"}\n"), 0o644),
		os.Chown(g.state, uid, gid), os.Chown(filepath.Dir(g.key), uid, gid), os.Chown(g.key, uid, gid),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var daemonEnv system.Env
	for _, kv := range env {
		if !strings.HasPrefix(kv, "BLOCKS_API_KEY=") {
			daemonEnv = append(daemonEnv, kv)
		}
	}
	args := []string{"run", "--config", config, "--plugins", handlers, "--state-dir", g.state, "--socket", g.socket}
	p := bin.StartAs(t, program, daemonEnv, uid, args...)
	g.Network = &system.Network{Binaries: bin, Process: p, StateDir: g.state, Env: env.With("BLOCKSD_SOCKET", g.socket)}
	g.WaitReady(t)
	s := g.Status(t)
	g.daemon, g.victim = s.PID, s.Handler(t, "echo").Processes[0].PID
	journal, err := os.ReadFile(filepath.Join(g.state, "journal.key"))
	if err != nil {
		t.Fatal(err)
	}
	g.secrets = []string{apiKey, string(journal), hex.EncodeToString(journal)[:16]}
	if level == "auto" {
		level = s.Handler(t, "hostile").Isolation
		t.Logf("isolation is %s", level)
	}
	if got := s.Handler(t, "hostile").Isolation; got != level {
		t.Skipf("machine: isolation is %q here instead of %q", got, level)
	}
	return g
}

// passable lets other users through the directories above a file that the test made, and into the last one.
func passable(t *testing.T, path string) {
	t.Helper()
	for dir := path; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// The attacks on what stands around a handler, behind each kind of wall.
func TestWalls(t *testing.T) {
	t.Parallel()
	users := map[string]int{"root": 0, "somebody": 54391}
	if me := os.Geteuid(); me != 0 {
		users["somebody"] = me
	}
	for _, tt := range []struct{ who, level string }{
		{"root", "auto"}, {"root", "landlock"}, {"somebody", "namespace"}, {"somebody", "landlock"}, {"somebody", launched},
	} {
		t.Run(tt.level+" as "+tt.who, func(t *testing.T) { // the names are the same whoever runs the tests
			g := start(t, users[tt.who], tt.level)
			g.reads(t)
			g.writes(t)
			g.controls(t)
			g.signals(t)
			g.peeks(t)
			g.forges(t)
			g.lifts(t)
			g.leaves(t)
			alive(t, g.Network)
			g.Stop(t)
		})
	}
}

// sh runs a script in the hostile handler.
func (g ground) sh(t *testing.T, script string) string {
	t.Helper()
	return attack(t, g.Network, "sh "+script)
}

// reads tries to see what is the daemon's.
func (g ground) reads(t *testing.T) {
	t.Helper()
	daemon, victim := strconv.Itoa(g.daemon), strconv.Itoa(g.victim)
	for _, path := range []string{
		g.key, g.state + "/journal.key", "/proc/" + daemon + "/root" + g.key, "/proc/" + daemon + "/root" + g.state + "/journal.key",
		"/proc/" + daemon + "/environ", "/proc/" + victim + "/environ", "/proc/" + victim + "/root" + g.key, "/proc/1/root" + g.key,
	} {
		out := g.sh(t, "cat "+path+" | od -An -v -tx1 | tr -d ' \\n'; cat "+path)
		for _, secret := range append(g.secrets, "BLOCKSD_HOST_TOKEN", "blocksd-host-token") {
			if strings.Contains(out, secret) {
				t.Errorf("the handler reads %s: %.200q", path, out)
			}
		}
	}
	for _, dir := range []string{g.state + "/run", g.state + "/handlers", filepath.Dir(g.key)} {
		out := g.sh(t, "ls "+dir)
		for _, what := range []string{"journal.db", "handlers.json"} {
			if strings.Contains(out, what) {
				t.Errorf("the handler lists %s: %s", dir, out)
			}
		}
	}
	if out := g.sh(t, "ls "+g.state); strings.Contains(out, "journal.db") {
		t.Errorf("the handler lists the state directory: %s", out)
	}
}

// writes tries to change what is the daemon's.
func (g ground) writes(t *testing.T) {
	t.Helper()
	before, err := os.ReadFile(g.key)
	if err != nil {
		t.Fatal(err)
	}
	out := g.sh(t, strings.Join([]string{
		"echo stolen > " + g.key, "rm -f " + g.key, "mv " + filepath.Dir(g.key) + " /tmp/stolen", "echo x > " + g.state + "/pins", "rm -rf " + g.state + "/journal.db",
		"umount -l " + g.state, "unshare -Urm umount -l " + g.state,
	}, "; "))
	after, err := os.ReadFile(g.key)
	if err != nil || string(after) != string(before) {
		t.Errorf("the handler has changed the key file to %q, %v: %s", after, err, out)
	}
	if _, err := os.Stat(filepath.Join(g.state, "pins")); err == nil {
		t.Error("the handler has written pins")
	}
	if _, err := os.Stat(filepath.Join(g.state, "journal.db")); err != nil {
		t.Errorf("the journal: %v", err)
	}
}

// controls tries to change things at the control socket, by a child, by one in a session of its own, and by one that is an
// orphan without an environment.
func (g ground) controls(t *testing.T) {
	t.Helper()
	drain := filepath.Join(filepath.Dir(g.state), "blocksd") + " drain --socket " + g.socket
	for _, script := range []string{
		drain, "setsid -w " + drain, "setsid -f env -i " + drain + " >/dev/null 2>&1; sleep 1", "(setsid env -i sh -c 'sleep 1; exec " + drain + "' >/dev/null 2>&1 &); sleep 2",
		"kill -9 " + strconv.Itoa(g.victim) + "; " + filepath.Join(filepath.Dir(g.state), "blocksd") + " restart echo --socket " + g.socket,
	} {
		out := g.sh(t, script)
		s := g.Status(t)
		if !s.Ready || s.Handler(t, "echo").Processes[0].PID != g.victim {
			t.Errorf("the handler has changed things by %q: %s, %v", script, out, s.Reasons)
		}
	}
}

// signals tries to end other processes.
func (g ground) signals(t *testing.T) {
	t.Helper()
	out := g.sh(t, fmt.Sprintf("kill -9 %d; kill -9 -%d; kill -STOP %d; kill -9 %d", g.victim, g.victim, g.victim, g.daemon))
	if !system.Alive(g.victim) || g.Exited() {
		t.Errorf("the handler has ended others: %s", out)
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(g.victim) + "/stat")
	if err != nil || strings.Contains(string(b), ") T ") {
		t.Errorf("the victim is stopped: %s, %v", b, err)
	}
}

// peeks tries to look into other processes, to reach a socket of somebody else that has no path, and to use the terminal.
func (g ground) peeks(t *testing.T) {
	t.Helper()
	if out := attack(t, g.Network, fmt.Sprintf("peek %d %d", g.daemon, g.victim)); out != "got []" {
		t.Errorf("the handler looks into the daemon %d or the victim %d: %s", g.daemon, g.victim, out)
	}
	name := fmt.Sprintf("blocksd-attack-%d-%d", os.Getpid(), g.daemon)
	l, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if out := attack(t, g.Network, "abstract "+name); !strings.Contains(out, "operation not permitted") {
		if scoped(g.Status(t).Handler(t, "hostile")) {
			t.Errorf("the handler connects to an abstract socket: %s", out)
		}
	}
	if out := g.sh(t, "echo x >/dev/tty"); strings.HasSuffix(out, "[<nil>]") {
		t.Errorf("the handler writes to the terminal: %s", out)
	}
}

// scoped reports whether this machine keeps signals and abstract sockets of a handler within its walls.
func scoped(h system.Handler) bool {
	return !slices.ContainsFunc(h.IsolationOpen, func(s string) bool { return strings.Contains(s, "landlock") })
}

// forges tries to publish an artifact of a task that another handler has, and to cancel it.
func (g ground) forges(t *testing.T) {
	t.Helper()
	c, err := system.NewConsumer(t.Context(), g.Env)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Submit(t.Context(), "sleeper", "10m")
	if err != nil {
		t.Fatal(err)
	}
	g.WaitRunning(t, s.ID)
	// Where sockets of handlers are, the machine tells everybody.
	sockets := strings.Fields(strings.TrimSuffix(g.sh(t, "grep -o '[^ ]*/host$' /proc/net/unix | sort -u"), "[<nil>]"))
	if out := attack(t, g.Network, "forge "+s.ID+" "+strings.Join(sockets, " ")); strings.Contains(out, "OK") {
		t.Errorf("the handler publishes for another: %s", out)
	}
	out := g.sh(t, filepath.Join(filepath.Dir(g.state), "blocksd")+" cancel "+s.ID+" --socket "+g.socket)
	if strings.HasSuffix(out, "[<nil>]") {
		t.Errorf("the handler cancels the task of another: %s", out)
	}
	g.WaitRunning(t, s.ID)
	events, err := c.History(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == "artifact" || e.Type == "terminal" {
			t.Errorf("the task of another has got %+v", e)
		}
	}
	if r := g.Run(t, g.Env, "cancel", s.ID); r.Code != 0 {
		t.Errorf("cancel by an operator: %s", r.Stderr)
	}
}

// lifts tries to give itself more than its limits, and to enter another control group.
func (g ground) lifts(t *testing.T) {
	t.Helper()
	out := g.sh(t, "for f in $(find /sys/fs/cgroup -name memory.max -o -name pids.max -o -name cgroup.procs -o -name cgroup.freeze 2>/dev/null | head -200); do "+
		"case $f in *cgroup.procs) w=$$;; *.freeze) w=0;; *) w=max;; esac; { echo $w >$f; } 2>/dev/null && echo LIFTED $f; done; ulimit -n 1048576 2>/dev/null && echo LIFTED; ulimit -c unlimited 2>/dev/null && echo LIFTED; true")
	if strings.Contains(out, "LIFTED") {
		t.Errorf("the handler lifts its limits: %s", out)
	}
}

// leaves starts processes that should outlive the handler.
func (g ground) leaves(t *testing.T) {
	t.Helper()
	out := g.sh(t, "setsid sleep 617 >/dev/null 2>&1 & echo $!; sleep 0.2")
	pid, _, _ := strings.Cut(out, "\n")
	left, err := strconv.Atoi(pid)
	if err != nil || !system.Alive(left) {
		t.Fatalf("nothing was left: %s", out)
	}
	if r := g.Run(t, g.Env, "restart", "hostile"); r.Code != 0 {
		t.Fatalf("restart: %s", r.Stderr)
	}
	system.Eventually(t, system.CallDeadline, "what the handler has started has ended with it", func() bool { return !system.Alive(left) })
}
