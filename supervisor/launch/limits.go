package launch

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Limits is what each process of a handler may use. The zero value sets only what is set always: no core dumps, no new
// privileges, DefaultFiles descriptors.
type Limits struct {
	MemoryBytes int64 // of the process and all that it starts; 0 for no limit
	Processes   int   // processes and threads at once; 0 for no limit
	CPUPercent  int   // 100 is one core; 0 for no limit
	Files       int   // open descriptors; DefaultFiles when 0

	// ReadPaths and WritePaths, when either is set, are the only files that the handler may open, except its own program
	// and directory, its private sockets, and what programs need to run at all (systemPaths).
	ReadPaths, WritePaths []string

	// User is a name or a number; "" is the daemon's own user.
	User string
	// Level is the isolation that is wished for; "" is Auto.
	Level Level
	// Strict refuses to start a handler when the machine cannot keep one of its limits; otherwise that limit is left out.
	Strict bool
}

// DefaultFiles is the number of descriptors that a handler may open when nothing else is said.
const DefaultFiles = 8192

// Machine is what this machine can do to keep limits.
type Machine struct {
	// Shim is the program that is started first and turns into the handler; "" for none. It must call Shim at its start.
	Shim string
	// Cgroups is where handlers get control groups of their own; nil, with the reason in NoCgroups, when there are none.
	Cgroups   *Cgroups
	NoCgroups string
	// Landlock is the version of the kernel's landlock; 0, with the reason in NoLandlock, when it cannot be used.
	Landlock   int
	NoLandlock string
	// Privileged: the daemon may become another user.
	Privileged bool
	// Users gives handlers users of their own; nil when they get none.
	Users *Users
	// Launcher starts processes of other users where the daemon is not Privileged; nil, with the reason in NoLauncher, when there
	// is none. The reason is empty where nobody would expect one.
	Launcher   *Launcher
	NoLauncher string
	// Closed are files and directories that no handler may open: canonical paths, none below another. Its own program and
	// its own sockets, which are in them, each handler keeps.
	Closed []string
	// Sockets are hidden where there are namespaces; landlock does not keep anybody from connecting to one.
	Sockets []string

	processes  uint64        // that handlers of one user may have where nothing else limits them; 0 for any number
	namespaces func() string // why there are none, "" when there are; nil is asked for never
}

// self is this program. By this name it is found when its file was replaced meanwhile, too.
const self = "/proc/self/exe"

// Self is this program as Machine.Shim, "" if it may not know how to be one: a program of tests.
func Self() string {
	path, err := os.Executable()
	if err != nil || filepath.Ext(path) == ".test" {
		return ""
	}
	return self
}

// allButSome is what handlers may have of a number of processes, so that the daemon can still start some: without a thread that it
// needs it would end.
func allButSome(n uint64) uint64 { return n - n/8 }

// CloseFiles closes files, and hides sockets, to all handlers. Call it before the first plan is made.
func (m *Machine) CloseFiles(files, sockets []string) {
	m.Closed, m.Sockets = canonical(files), canonical(sockets)
}

// lacksNamespaces says why handlers cannot get a view of the file system of their own, "" when they can.
func (m *Machine) lacksNamespaces() string {
	if m.namespaces == nil {
		return "namespaces were not looked for"
	}
	return m.namespaces()
}

// Probe looks at the machine. cgroup is "auto", "off", or the path of a control group that the daemon may use alone.
func Probe(shim, cgroup string) *Machine {
	if !shimWorks {
		shim = ""
	}
	m := &Machine{Shim: shim, Privileged: os.Geteuid() == 0}
	m.Landlock, m.NoLandlock = probeLandlock()
	m.processes = probeProcesses()
	m.namespaces = sync.OnceValue(func() string { return probeNamespaces(shim) })
	var err error
	if m.Cgroups, err = OpenCgroups(cgroup); err != nil {
		m.NoCgroups = err.Error()
	}
	return m
}

// UseLauncher looks for the launcher at a socket, if this machine needs one. What it starts it must be able to end as a whole,
// so there must be control groups.
func (m *Machine) UseLauncher(socket string) {
	if m.Privileged || m.Shim == "" || socket == "" {
		return
	}
	if m.Cgroups == nil {
		m.NoLauncher = "a launcher is not used without control groups, and " + m.NoCgroups
		return
	}
	var err error
	if m.Launcher, err = ConnectLauncher(socket); err != nil {
		m.NoLauncher = err.Error() + ": start blocksd-launcher.socket, and then the daemon again"
	}
}

// Close gives up the control groups and the launcher. Call it when no process is left.
func (m *Machine) Close() {
	if m == nil {
		return
	}
	if m.Launcher != nil {
		m.Launcher.Close()
	}
	if m.Cgroups != nil {
		m.Cgroups.Close()
	}
}

const noLandlock = "the kernel has no landlock"

// landlockTruncate is the first version that also guards against emptying files.
const landlockTruncate = 3

// Plan is how limits are kept on a machine.
type Plan struct {
	// Skipped says what is not kept as wished, one sentence each.
	Skipped []string

	// Level of isolation, and what it leaves open on this machine, one sentence each.
	Level Level
	Open  []string

	machine  *Machine
	rlimits  []rlimit
	settings []setting // of the control group
	cgroup   bool
	landlock bool // only read and write are open
	walls    walls
	read     []string
	write    []string
	user     *account
	env      []string // hints for the handler's runtime
}

type rlimit struct {
	Resource int
	Value    uint64
}

// setting is one file of a control group.
type setting struct{ file, value string }

// ErrRefused is the error of Plan for strict limits that the machine cannot keep.
var ErrRefused = errors.New("the limits are strict")

// Plan decides how the limits of any program are kept. A nil machine keeps none.
func (l Limits) Plan(m *Machine) (*Plan, error) { return l.PlanFor(m, Subject{}) }

// PlanFor decides how the limits of a handler are kept. A nil machine keeps none.
func (l Limits) PlanFor(m *Machine, subject Subject) (*Plan, error) {
	if m == nil {
		m = &Machine{NoCgroups: "there are no control groups", NoLandlock: noLandlock}
	}
	p := &Plan{machine: m, cgroup: m.Cgroups != nil}
	skip := func(format string, args ...any) { p.Skipped = append(p.Skipped, fmt.Sprintf(format, args...)) }
	files := l.Files
	if files <= 0 {
		files = DefaultFiles
	}
	p.rlimits = []rlimit{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, uint64(files)}}
	if m.Shim == "" && (l.Files > 0 || l.MemoryBytes > 0) {
		skip("rlimits are not set because there is no launch program")
	}
	if l.User != "" {
		a, err := lookupAccount(l.User)
		switch {
		case err != nil:
			return nil, err // to go on as another user than the one wished would be worse than not to start
		case int(a.UID) == os.Geteuid():
		case m.Launcher == nil && (!m.Privileged || m.Shim == ""):
			why := "only root may become another user"
			if m.NoLauncher != "" {
				why = m.NoLauncher
			}
			skip("the handler runs as the daemon's user and not as %s because %s", l.User, why)
		default:
			p.user = &a
		}
	}
	noUser := ""
	if l.User == "" {
		p.user, noUser = m.ownUser(subject, l)
	}
	if l.MemoryBytes > 0 {
		p.env = append(p.env, "GOMEMLIMIT="+strconv.FormatInt(l.MemoryBytes/10*9, 10))
		if why := m.lacks("memory"); why == "" {
			p.settings = append(p.settings, setting{"memory.max", strconv.FormatInt(l.MemoryBytes, 10)},
				setting{"memory.swap.max", "0"}, setting{"memory.oom.group", "1"})
		} else {
			p.rlimits = append(p.rlimits, rlimit{unix.RLIMIT_DATA, uint64(l.MemoryBytes)})
			skip("memory is limited for each process alone, by RLIMIT_DATA, because %s", why)
		}
	}
	if l.Processes > 0 {
		switch why := m.lacks("pids"); {
		case why == "":
			p.settings = append(p.settings, setting{"pids.max", strconv.Itoa(l.Processes)})
		case p.user != nil && p.user.UID != 0:
			p.rlimits = append(p.rlimits, rlimit{unix.RLIMIT_NPROC, uint64(l.Processes)})
			skip("processes are limited for user %s as a whole, by RLIMIT_NPROC, because %s", cmp.Or(l.User, strconv.Itoa(p.UID())), why)
		default:
			skip("the number of processes is not limited because %s, and the handler has no user of its own", why)
		}
	}
	if l.Processes <= 0 && m.processes > 0 {
		p.rlimits = append(p.rlimits, rlimit{unix.RLIMIT_NPROC, m.processes})
	}
	if l.CPUPercent > 0 {
		if why := m.lacks("cpu"); why == "" {
			p.settings = append(p.settings, setting{"cpu.max", strconv.Itoa(l.CPUPercent*1000) + " 100000"})
		} else {
			skip("processor time is not limited because %s", why)
		}
	}
	if len(l.ReadPaths)+len(l.WritePaths) > 0 {
		switch {
		case m.Shim == "":
			skip("files are not guarded because there is no launch program")
		case m.Landlock == 0:
			skip("files are not guarded because %s", m.NoLandlock)
		default:
			if m.Landlock < landlockTruncate {
				skip("files outside of write_paths can be emptied because the kernel's landlock has version %d of at least %d", m.Landlock, landlockTruncate)
			}
			p.landlock = true
			p.read, p.write = l.ReadPaths, l.WritePaths
		}
	}
	p.walls = m.wallsOf(l.Level, p.user != nil, p.UID() == 0)
	if p.launcher() != nil { // which may not mount anything, and need not: the files are of another user
		p.walls.mask = false
	}
	p.Level, p.Open = p.walls.level, p.walls.open
	if noUser != "" {
		p.Open = append([]string{noUser}, p.Open...)
	}
	if least := l.least(); !p.Level.atLeast(least) {
		why := "its isolation would be " + string(p.Level) + " instead of " + string(least)
		if len(p.Open) > 0 {
			why += ": " + p.Open[0]
		}
		if l.Strict {
			return nil, fmt.Errorf("%w and this machine cannot keep them: %s", ErrRefused, strings.Join(append(p.Skipped, why), "; "))
		}
		if l.Level != "" && l.Level != Auto { // what was not asked for is shown as the level alone
			skip("%s", why)
		}
	}
	if l.Strict && len(p.Skipped) > 0 {
		return nil, fmt.Errorf("%w and this machine cannot keep them: %s", ErrRefused, strings.Join(p.Skipped, "; "))
	}
	return p, nil
}

// least is the lowest level that satisfies the wish.
func (l Limits) least() Level {
	if l.Level == "" || l.Level == Auto {
		return Landlock
	}
	return l.Level
}

// lacks says why a controller cannot be used, "" when it can.
func (m *Machine) lacks(controller string) string {
	switch {
	case m.Cgroups == nil:
		return m.NoCgroups
	case !m.Cgroups.Has(controller):
		return fmt.Sprintf("the control group %s has no %s controller", m.Cgroups.base, controller)
	}
	return ""
}

// UID is the user that the process will run as.
func (p *Plan) UID() int {
	if p == nil || p.user == nil {
		return os.Geteuid()
	}
	return int(p.user.UID)
}

// launcher starts the process; nil when this one does it itself.
func (p *Plan) launcher() *Launcher {
	if !p.Foreign() {
		return nil
	}
	return p.machine.Launcher
}

// Launched reports whether a launcher starts the process, and makes its private directory.
func (p *Plan) Launched() bool { return p.launcher() != nil }

// ShareSocket lets the process connect to a socket that this one has made in its private directory, which keeps others away.
func (p *Plan) ShareSocket(path string) error { return shareSocket(path) }

// SeenUID is the user that the process will run as, as this one sees it.
func (p *Plan) SeenUID() int {
	if p.Launched() && !mapped("/proc/self/uid_map", p.user.UID) {
		return overflowUID()
	}
	return p.UID()
}

// GID is the group that the process will run as.
func (p *Plan) GID() int {
	if p == nil || p.user == nil {
		return os.Getegid()
	}
	return int(p.user.GID)
}

// Foreign reports whether the process will run as another user than the daemon.
func (p *Plan) Foreign() bool { return p != nil && p.user != nil }

// environment adds hints for the handler's runtime to those that it has.
func (p *Plan) environment(env []string) []string {
	for _, hint := range p.env {
		name, _, _ := strings.Cut(hint, "=")
		if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
			env = append(slices.Clip(env), hint)
		}
	}
	return env
}

// systemPaths are open for reading to every handler whose files are guarded: what programs, interpreters and TLS need.
// Not the whole of /etc: there are secrets in it.
var systemPaths = []string{
	"/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/sys/fs/cgroup", "/sys/devices/system/cpu", "/sys/kernel/mm/transparent_hugepage",
	"/proc", // where landlock keeps a handler from what is private in other processes
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/ca-certificates.conf", "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf",
	"/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group", "/etc/localtime", "/etc/timezone", "/etc/ld.so.cache", "/etc/ld.so.conf",
	"/etc/ld.so.conf.d", "/etc/alternatives", "/etc/mime.types", "/etc/os-release", "/run/systemd/resolve",
}

// devices are open for reading and writing to every handler whose files are guarded.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// guard is what landlock leaves open to a process; nil for none.
func (p *Plan) guard(spec Spec) *guard {
	if !p.landlock && !p.walls.landlock {
		return nil
	}
	g := &guard{Version: p.machine.Landlock, Scopes: p.walls.landlock}
	if p.walls.landlock && !p.walls.mask && !p.Foreign() { // a user of its own, or the mask, closes them too, and more exactly
		g.Closed = p.machine.Closed
	}
	if p.landlock {
		g.Read, g.Write = append(slices.Clone(systemPaths), realPath(spec.Path), spec.Path), append(slices.Clone(devices), p.write...)
		if spec.Dir != "" {
			g.Read = append(g.Read, spec.Dir)
		}
		g.Read = append(g.Read, p.read...)
	} else {
		g.Write = []string{"/"}
		if !p.walls.mask {
			g.ReadOnly = []string{groupsRoot}
		}
	}
	g.Read = slices.Concat(g.Read, spec.kept(p.machine.Closed), spec.needed(p.machine.Closed))
	if spec.Private != "" {
		g.Write = append(g.Write, spec.Private)
	}
	return g
}
