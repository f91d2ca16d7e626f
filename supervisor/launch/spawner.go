// Package launch starts handler processes and knows how each one ended. A process gets pipes that we own, a session
// of its own, a signal when the daemon dies, and an environment of listed names only; it never gets the daemon's terminal,
// standard input or secrets.
package launch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Spec is what to start.
type Spec struct {
	Path string
	// Program is what to execute, open; nil for what is at Path then. A script sees the link /proc/self/fd/N as its name.
	Program *os.File
	// Argv0 is the program's name as it sees it itself; "" is Path. A program that runs from a copy gets its own name.
	Argv0 string
	Args  []string // without the program's name
	Dir   string   // "" is the root directory
	Env   []string // the whole environment, KEY=value

	// Plan limits the process; nil does not.
	Plan *Plan
	// Needed are files and directories that the process reads, although they may be below closed ones.
	Needed []string
	// Private is a directory that the process may use whatever its limits say.
	Private string
	// Mark is an entry of Env that no other process has: what carries it was started by the process.
	Mark string
}

// argv is the arguments of the program, its own name first.
func (s Spec) argv() []string {
	name := s.Argv0
	if name == "" {
		name = s.Path
	}
	return append([]string{name}, s.Args...)
}

// dir is the working directory.
func (s Spec) dir() string {
	if s.Dir == "" {
		return "/"
	}
	return s.Dir
}

// Spawner starts processes, all from one thread of the operating system: Linux sends the parent-death signal when the
// thread that forked ends, not when the process does, and Go may end any thread that is not locked.
type Spawner struct {
	requests chan request
	done     chan struct{} // closed when Run has returned
	// noBirth: this machine starts no process inside of a control group. Only Run's goroutine uses it.
	noBirth bool

	mu   sync.Mutex
	live map[*Process]bool // guarded by mu; those of which something may be left
}

type request struct {
	spec  Spec
	group *group // nil for none
	reply chan reply
}

type reply struct {
	process *Process
	err     error
}

// ErrStopped is returned by Spawn when the spawner does not run any more.
var ErrStopped = errors.New("the process spawner has stopped")

// NewSpawner returns a spawner; Spawn works while Run runs.
func NewSpawner() *Spawner {
	return &Spawner{requests: make(chan request), done: make(chan struct{}), live: map[*Process]bool{}}
}

// Run serves Spawn until ctx ends. It must outlive every process: those still alive when it returns are killed by the
// kernel, because the thread is given up with it. It may be called once.
func (s *Spawner) Run(ctx context.Context) error {
	defer close(s.done)
	runtime.LockOSThread() // never unlocked: see above
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-s.requests:
			p, err := s.start(r.spec, r.group)
			r.reply <- reply{p, err}
		}
	}
}

// Spawn starts a process. It belongs to the caller, who must Kill it or wait for Done, and Close it; its output must be
// read.
func (s *Spawner) Spawn(ctx context.Context, spec Spec) (_ *Process, err error) {
	r := request{spec: spec, reply: make(chan reply, 1)}
	if p := spec.Plan; p != nil {
		r.spec.Env = p.environment(spec.Env)
		if p.cgroup {
			if r.group, err = p.machine.Cgroups.create(p.settings); err != nil {
				return nil, fmt.Errorf("start %s: %w", spec.Path, err)
			}
		}
	}
	fail := func(err error) (*Process, error) {
		if r.group != nil {
			_ = r.group.remove() // it is empty
		}
		return nil, err
	}
	a := s.ask(ctx, r)
	if a.err != nil {
		return fail(a.err)
	}
	if err := a.process.becomes(ctx); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Path, a.process.discard(err))
	}
	return a.process, nil
}

// ask has a process started: by a launcher, or by the thread that forks.
func (s *Spawner) ask(ctx context.Context, r request) reply {
	if r.spec.Plan.launcher() != nil {
		p, err := s.begin(r.spec, r.group, false)
		return reply{p, err}
	}
	select {
	case s.requests <- r:
	case <-s.done:
		return reply{nil, ErrStopped}
	case <-ctx.Done():
		return reply{nil, fmt.Errorf("start %s: %w", r.spec.Path, context.Cause(ctx))}
	}
	return <-r.reply // forking does not wait for anything but the kernel
}

// start starts a process inside of its control group. Where the kernel or a filter of system calls (systemd's
// RestrictNamespaces=) does not allow that, the shim enters the group by itself, before it does anything else.
func (s *Spawner) start(spec Spec, g *group) (*Process, error) {
	hasShim := spec.Plan != nil && spec.Plan.machine.Shim != ""
	if g == nil || !hasShim {
		return s.begin(spec, g, true)
	}
	if !s.noBirth {
		p, err := s.begin(spec, g, true)
		if !lacksClone3(err) {
			return p, err
		}
	}
	p, err := s.begin(spec, g, false)
	s.noBirth = err == nil
	return p, err
}

// lacksClone3 reports whether a start failed because the kernel has no clone3 (ENOSYS), none that knows control groups
// (E2BIG), or a filter that forbids it (ENOSYS or EPERM).
func lacksClone3(err error) bool {
	return errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.E2BIG) || errors.Is(err, syscall.EPERM)
}

// begin starts a process. With a group, born says that it starts inside of the group; else its shim must enter.
func (s *Spawner) begin(spec Spec, g *group, born bool) (_ *Process, err error) {
	var open []*os.File
	defer func() {
		if err != nil {
			for _, f := range open {
				f.Close()
			}
		}
	}()
	pipe := func() (r, w *os.File, err error) {
		r, w, err = os.Pipe()
		if err == nil {
			open = append(open, r, w)
		}
		return r, w, err
	}
	outR, outW, err := pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: make a pipe for its output: %w", spec.Path, err)
	}
	errR, errW, err := pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: make a pipe for its errors: %w", spec.Path, err)
	}
	p := &Process{Stdout: outR, Stderr: errR, uid: spec.Plan.SeenUID(), group: g, mark: spec.Mark, done: make(chan struct{}), cleaned: make(chan struct{})}
	var shimW *os.File
	if spec.Plan != nil && spec.Plan.machine.Shim != "" {
		if p.shim, shimW, err = pipe(); err != nil {
			return nil, fmt.Errorf("start %s: make a pipe for its start: %w", spec.Path, err)
		}
	}
	if l := spec.Plan.launcher(); l != nil {
		if p.child, err = l.start(spec, g, outW, errW, shimW); err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.Path, err)
		}
	} else if p.child, err = fork(spec, g, born, outW, errW, shimW); err != nil {
		return nil, err
	}
	outW.Close()
	errW.Close()
	if shimW != nil {
		shimW.Close()
	}
	s.mu.Lock()
	s.live[p] = true
	s.mu.Unlock()
	p.forget = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.live, p)
	}
	go p.wait() // ends with the process; the owner of the process waits in Close
	return p, nil
}

// fork starts a process of our own. shimW is nil without a shim.
func fork(spec Spec, g *group, born bool, outW, errW, shimW *os.File) (child, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("start %s: open its standard input: %w", spec.Path, err)
	}
	defer null.Close()
	path, argv := spec.Path, spec.argv()
	files := []*os.File{null, outW, errW}
	sys := attributes(g, born)
	if shimW != nil {
		enter := ""
		if g != nil && !born {
			enter = g.path
		}
		if path, argv, err = spec.Plan.command(spec, enter); err != nil {
			return nil, fmt.Errorf("start %s: write its limits: %w", spec.Path, err)
		}
		files = append(files, shimW) // becomes descriptor shimStatus
		if spec.Program != nil {
			files = append(files, spec.Program) // becomes descriptor shimProgram
		}
		if spec.Plan.walls.mask {
			defer ownNamespace(sys)()
		}
	}
	c, err := StartChild(path, argv, &os.ProcAttr{Dir: spec.dir(), Env: spec.Env, Files: files, Sys: sys})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	return c, nil
}

// Owns reports whether pid is one of the processes, or was started by one, as far as that can be seen: by its session, its
// control group, its parents, its environment, and by no_new_privs, which every process gets through the shim and none can
// give back. Where this process has it too, that says nothing.
func (s *Spawner) Owns(pid int) bool {
	if pid <= 0 {
		return false
	}
	s.mu.Lock()
	live := slices.Collect(maps.Keys(s.live))
	s.mu.Unlock()
	var env []byte
	if len(live) > 0 {
		env, _ = os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	}
	for _, p := range live {
		if p.Owns(pid) || p.mark != "" && marked(env, p.mark) {
			return true
		}
	}
	return pid != os.Getpid() && noNewPrivileges("self") == "0" && noNewPrivileges(strconv.Itoa(pid)) == "1"
}

// noNewPrivileges is the flag of a process, "" when it cannot be seen.
func noNewPrivileges(pid string) string {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "NoNewPrivs:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// plain strips the path and the name of the system call, which the sentence around it names already.
func plain(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
