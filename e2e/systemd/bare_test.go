//go:build linux

package systemd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bareDeadline is how long a step of TestBareRoot may take. It bounds hangs, on a slow and busy machine too.
const bareDeadline = 20 * time.Minute

// What an ordinary user does with the project on a Debian that has Go, make and git and nothing else.
var bareSteps = []struct {
	name, script string
	want         []string // of what it prints
}{
	{"clone", `mkdir "my projects" && git clone -q blocksd.bundle "my projects/blocksd"`, nil},
	{"what is needed", `cd "my projects/blocksd" && make check-needs`, []string{
		"There is no working C compiler: the tests run without the race detector. Install gcc and the C library's headers to run them with it.",
	}},
	{"what CI needs", `cd "my projects/blocksd" && if CI=true make -s check-needs; then echo "it is enough"; fi`, []string{
		"There is no working C compiler, which the race detector needs, and CI must run it: install gcc and the C library's headers.",
	}},
	{"build", `cd "my projects/blocksd" && make -s build && ls bin/blocksd bin/plugins/echo && test -z "$(git status --porcelain)"`, []string{"bin/plugins/echo"}},
	// As somebody does at a terminal, to the end that Ctrl-C is.
	{"run", `cd "my projects/blocksd" && set -m && { make -s run >"$HOME/said" 2>&1 & } && run=$!
examples=$(grep -l '"example"' bin/plugins/*.agent-card.json | wc -l)
until [ "$(grep -c '^  completed' "$HOME/said")" -ge "$examples" ] || ! kill -0 $run; do sleep 0.2; done
kill -INT -- -$run; wait $run; cat "$HOME/said"`, []string{
		"agent     adder is online", `"sum": 42`, "Echoed request: hello, network", ": 7 completed, 0 failed, 0 canceled",
	}},
	// Some packages stand for all: their tests are compiled and run without the race detector, and pass.
	{"tests", `cd "my projects/blocksd" && make -s check-format && go run ./scripts/gotest $(scripts/race) ./event ./network/wire ./runtime/task ./scripts/gotest`, []string{"0 failed, 0 skipped"}},
}

// TestBareRoot: the commands of README do what they say for an ordinary user of a Debian with Go, make and git, in a path with a
// space in it, without a network. Modules come from those that this machine has fetched.
func TestBareRoot(t *testing.T) {
	d := debian(t)
	t.Parallel()
	b := bare{tree: d.tree, home: t.TempDir()}
	command(t, "git", "-C", "../..", "bundle", "create", "-q", filepath.Join(b.home, "blocksd.bundle"), "HEAD")
	if err := os.Chown(b.home, ordinary, ordinary); err != nil {
		t.Fatal(err)
	}
	b.goroot = strings.TrimSpace(command(t, "go", "env", "GOROOT"))
	b.modules = filepath.Join(strings.TrimSpace(command(t, "go", "env", "GOMODCACHE")), "cache/download")
	if out, err := b.run(t.Context(), "true"); err != nil {
		t.Logf("%v %s", err, out)
		t.Skip("machine: no process can be put into a root of its own")
	}
	for _, step := range bareSteps {
		if !t.Run(step.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bareDeadline)
			defer cancel()
			out, err := b.run(ctx, step.script)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range step.want {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
		}) {
			return
		}
	}
}

// ordinary is the user of the bare root, and the group.
const ordinary = 1000

// bare is a root that a process can be put into.
type bare struct{ tree, home, goroot, modules string }

// entering is set for the process that enters the bare root: this program once more, in namespaces of its own, where it is the
// first process, so that nothing outlives it.
const entering = "BLOCKSD_BARE_ROOT"

// enterBareRoot switches the loopback interface on, which is the only one, and becomes the shell of the bare root.
func enterBareRoot() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("switch on the loopback interface: %w", err)
	}
	return unix.Exec("/bin/sh", []string{"sh", "-c", enter}, os.Environ())
}

// enter is what becomes the shell of the bare root.
const enter = `set -e
mount --make-rprivate /
mount --bind "$TREE" "$TREE"
cd "$TREE"
mkdir -p usr/local/go mnt/modules home/me
mount --bind -o ro "$GOROOT_HERE" usr/local/go
mount --bind -o ro "$MODULES" mnt/modules
mount --bind "$HOME_HERE" home/me
mount -t proc proc proc
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p dev/shm && mount -t tmpfs -o mode=1777 tmpfs dev/shm
printf 'root:x:0:0:root:/root:/bin/bash\nme:x:%s:%s::/home/me:/bin/bash\n' "$ME" "$ME" >tmp/passwd
printf 'root:x:0:\nme:x:%s:\n' "$ME" >tmp/group
mount --bind tmp/passwd etc/passwd
mount --bind tmp/group etc/group
exec chroot --userspec="$ME:$ME" . /usr/bin/env -i HOME=/home/me USER=me LANG=C.UTF-8 \
  PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin GOPROXY=file:///mnt/modules GOSUMDB=off GOTOOLCHAIN=local \
  /bin/bash -c 'cd; umask 002; eval "$1"' bash "$SCRIPT"
`

// run runs lines of a shell there.
func (b bare) run(ctx context.Context, script string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := newCommand(ctx, "", []string{
		entering + "=yes", "TREE=" + b.tree, "HOME_HERE=" + b.home, "GOROOT_HERE=" + b.goroot, "MODULES=" + b.modules, "ME=" + strconv.Itoa(ordinary), "SCRIPT=" + script,
	}, self)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
	}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
