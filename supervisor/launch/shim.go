//go:build linux

package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The launch shim: the daemon's own program, started again under a hidden first argument, limits itself and then turns into
// the handler. A process can be limited completely only from inside, before the handler's first instruction.

// shimArgument is the hidden first argument.
const shimArgument = "__launch"

// shimStatus is the descriptor on which the shim says why it failed. It is closed without output when the handler runs.
const shimStatus = 3

// shimProgram is the descriptor of what is to be executed, if the order says so.
const shimProgram = shimStatus + 1

// order is what the shim has to do, as JSON in its second argument; the handler's program and its arguments, name first, follow.
type order struct {
	Parent  int    // the daemon: a shim that finds another parent was orphaned and ends
	Enter   string // path of the control group to enter; "" when the shim was started in the right one
	Rlimits []rlimit
	Mask    *mask
	Guard   *guard
	Account *account
	Dir     string
	// Capabilities are all that remain; nil leaves those that there are.
	Capabilities []uintptr
	// Program: execute the open descriptor shimProgram. Script: what executes it opens it again.
	Program, Script bool
	// Launched is for a process that a launcher starts.
	Launched *launched
}

// Shim turns the process into a handler when it was started for that, and returns otherwise. Call it first in main.
func Shim(args []string) {
	if len(args) == 3 && args[1] == probeArgument {
		tryNamespaces(args[2])
	}
	launched := len(args) == 2 && args[1] == launchedArgument
	if !launched && (len(args) < 5 || args[1] != shimArgument) {
		return
	}
	// The signal at the daemon's death belongs to a thread: the one that executes the handler.
	runtime.LockOSThread()
	// Descriptors that the daemon was started with, and does not know of, are not for handlers.
	_ = unix.CloseRange(shimStatus, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	syscall.CloseOnExec(shimStatus) // also on a kernel without the call above
	var o order
	var err error
	if launched {
		if err = o.read(launchedOrder); err == nil {
			err = o.become("", o.Launched.Args.Strings())
		}
	} else if err = json.Unmarshal([]byte(args[2]), &o); err == nil {
		err = o.become(args[3], args[4:])
	}
	var errno syscall.Errno
	errors.As(err, &errno)
	_, _ = fmt.Fprintf(os.NewFile(shimStatus, "status"), "%d %v", int(errno), err)
	os.Exit(127)
}

// become does everything and returns only if something failed.
func (o *order) become(path string, argv []string) error {
	if o.Enter != "" { // first: afterwards the shim may not be allowed to, and everything from here on is counted there
		if err := enterGroup(o.Enter); err != nil {
			return step("enter the control group "+o.Enter, plain(err))
		}
	}
	if o.Launched != nil && o.Launched.Group {
		if err := enterGroupAt(launchedGroup); err != nil {
			return step("enter its control group", plain(err))
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return step("forbid new privileges", err)
	}
	if o.Mask != nil { // before landlock, which forbids mounts
		if err := o.Mask.hide(); err != nil {
			return step("hide the daemon's files", err)
		}
		// A working directory below what is hidden now would lead back to it.
		if err := os.Chdir(o.Dir); err != nil {
			return step("enter "+o.Dir, plain(err))
		}
	}
	if o.Guard != nil { // before the user changes: the paths are opened with the daemon's rights
		if err := o.Guard.enforce(); err != nil {
			return step("guard files", err)
		}
	}
	if o.Mask != nil || o.Guard != nil {
		if err := leaveOthersAlone(); err != nil {
			return step("leave other processes alone", err)
		}
	}
	if o.Capabilities != nil {
		if err := boundCapabilities(o.Capabilities); err != nil {
			return step("bound capabilities", err)
		}
	}
	// The keys of the session that the daemon was started from, and so those of other handlers, are not for this one. Before the
	// user changes, so that no handler can use up what this takes. An error is that of a filter, which then holds for the handler too.
	_, _ = unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	program := -1
	if o.Account != nil && !o.Program { // while it can be opened; see below
		if isELF(path) {
			program, _ = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		}
	}
	if a := o.Account; a != nil {
		if err := syscall.Setgroups(nil); err != nil {
			return step("give up groups", err)
		}
		if err := syscall.Setresgid(int(a.GID), int(a.GID), int(a.GID)); err != nil {
			return step("become group "+strconv.Itoa(int(a.GID)), err)
		}
		if err := syscall.Setresuid(int(a.UID), int(a.UID), int(a.UID)); err != nil {
			return step("become user "+strconv.Itoa(int(a.UID)), err)
		}
	}
	if o.Capabilities != nil {
		if err := keepCapabilities(o.Capabilities); err != nil {
			return step("give up capabilities", err)
		}
	}
	// Again, because the first one was for another thread, and is lost with a change of user.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return step("ask for the end with the daemon", err)
	}
	if os.Getppid() != o.Parent {
		return errors.New("the daemon has ended")
	}
	environ := os.Environ()
	if l := o.Launched; l != nil {
		var err error
		if path, err = l.prepare(o.Dir); err != nil {
			return err
		}
		environ = l.Env.Strings()
	}
	if o.Program {
		if err := keepOpen(shimProgram, o.Script); err != nil {
			return err
		}
		path = descriptor(shimProgram)
	}
	for _, r := range o.Rlimits { // last: they hold for the shim too
		if err := lower(r); err != nil {
			return step(fmt.Sprintf("set resource limit %d", r.Resource), err)
		}
	}
	// The user may not be allowed to come to the program, but is to execute it.
	if program >= 0 && unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) != nil {
		path = "/proc/self/fd/" + strconv.Itoa(program)
	}
	return syscall.Exec(path, argv, environ)
}

func step(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }

// lower sets a limit, both soft and hard, and never raises one.
func lower(r rlimit) error {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(r.Resource, &now); err != nil {
		return err
	}
	v := min(r.Value, now.Max)
	return syscall.Setrlimit(r.Resource, &syscall.Rlimit{Cur: v, Max: v})
}

// command is how a process is started through the shim, which enters the control group enter unless that is empty.
func (p *Plan) command(spec Spec, enter string) (path string, argv []string, err error) {
	o := order{Parent: os.Getpid(), Enter: enter, Rlimits: p.rlimits, Guard: p.guard(spec), Mask: p.mask(spec), Account: p.user, Dir: spec.dir(), Capabilities: p.capabilities()}
	if spec.Program != nil {
		o.Program, o.Script = true, !elf(spec.Program)
		if o.Guard != nil {
			o.Guard.Read = append(o.Guard.Read[:len(o.Guard.Read):len(o.Guard.Read)], descriptor(shimProgram))
		}
	}
	b, err := json.Marshal(o)
	if err != nil {
		return "", nil, err
	}
	return p.machine.Shim, append([]string{"blocksd", shimArgument, string(b), spec.Path}, spec.argv()...), nil
}

// shimAnswer reads why a shim failed; nil when it became the handler.
func shimAnswer(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, 4<<10))
	if err != nil {
		return err
	}
	number, text, ok := strings.Cut(string(b), " ")
	if !ok {
		return nil
	}
	errno, err := strconv.Atoi(number)
	if err != nil || errno == 0 {
		return errors.New(strings.ToValidUTF8(text, "\uFFFD"))
	}
	if text == syscall.Errno(errno).Error() { // of the execution itself
		return syscall.Errno(errno)
	}
	return fmt.Errorf("%s%w", strings.TrimSuffix(text, syscall.Errno(errno).Error()), syscall.Errno(errno))
}
