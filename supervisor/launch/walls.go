package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Level says what keeps a handler from the daemon's files and from other handlers.
type Level string

// The levels, the best first.
const (
	// OwnUser: the handler has a user that nothing else runs as.
	OwnUser Level = "user"
	// Namespace: in its own view of the file system the closed files do not exist.
	Namespace Level = "namespace"
	// Landlock: the kernel refuses to open closed files for it.
	Landlock Level = "landlock"
	// NoWalls: it may do whatever the daemon's user may.
	NoWalls Level = "none"
	// Auto is the wish for the best that the machine can do.
	Auto Level = "auto"
)

// levels in order.
var levels = []Level{OwnUser, Namespace, Landlock, NoWalls}

// atLeast reports whether l keeps away what other does.
func (l Level) atLeast(other Level) bool {
	return slices.Index(levels, l) <= slices.Index(levels, other)
}

// Versions of landlock that the walls make a difference of.
const (
	landlockRefer  = 2 // files may be moved between directories
	landlockScopes = 6 // signals and abstract sockets end at the walls
)

// walls is what stands around one handler.
type walls struct {
	level Level
	// open says what the level does not keep on this machine, one sentence each.
	open []string
	// mask hides the closed files by mounts; landlock guards files, signals and other processes' memory.
	mask, landlock bool
}

// wallsOf decides which walls a handler gets. wish is what the configuration asks for; "" is Auto.
func (m *Machine) wallsOf(wish Level, ownUser bool, root bool) walls {
	w := walls{level: NoWalls}
	if wish == "" {
		wish = Auto
	}
	switch {
	case wish == NoWalls:
		w.open = []string{"the handler may do whatever its user may because the configuration asks for no isolation"}
		if ownUser {
			w.level, w.open = OwnUser, nil
		}
		return w
	case m.Shim == "":
		w.open = []string{"the handler may do whatever the daemon's user may because there is no launch program"}
		return w
	}
	w.landlock = m.Landlock > 0
	noNamespace := "the configuration asks for landlock"
	if wish != Landlock {
		noNamespace = m.lacksNamespaces()
		w.mask = noNamespace == ""
	}
	switch {
	case ownUser:
		w.level = OwnUser
	case w.mask:
		w.level = Namespace
	case w.landlock:
		w.level = Landlock
	default:
		w.open = append(w.open, fmt.Sprintf("the handler may do whatever the daemon's user may because %s and %s", noNamespace, m.NoLandlock))
		return w
	}
	if m.Landlock == 0 && !ownUser {
		w.open = append(w.open, "the handler may signal other processes of the daemon's user, and read their memory as far as they allow it, because "+m.NoLandlock)
	} else if m.Landlock < landlockScopes && !ownUser {
		w.open = append(w.open, fmt.Sprintf("the handler may signal other processes of the daemon's user because the kernel's landlock has version %d of at least %d", m.Landlock, landlockScopes))
	}
	if root && !ownUser {
		w.open = append(w.open, "the handler runs as root, which no wall holds for long: give it a user of its own")
	}
	return w
}

// canonical returns absolute paths without symbolic links, sorted, without those that are below another one. A path that
// does not exist keeps its last parts as they are. A pipe that has no name but that of a descriptor, as <(…) of a shell
// makes it, is left out: no handler inherits it.
func canonical(paths []string) []string {
	var all []string
	for _, p := range paths {
		if p == "" {
			continue
		}
		if p = realPath(p); !within(p, "/proc") {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	var out []string
	for _, p := range all {
		if !slices.ContainsFunc(out, func(above string) bool { return within(p, above) }) {
			out = append(out, p)
		}
	}
	return out
}

// realPath resolves as much of a path as exists.
func realPath(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return filepath.Clean(path)
	}
	for at, rest := path, ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
	}
}

// within reports whether path is dir or below it. Both are clean.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// opened lists what of dir may be opened when the closed paths may not: dir itself if none of them is in it, else what is
// beside them, and beside the directories that lead to them. What appears there later stays closed. Symbolic links are
// left out: where they lead counts.
func opened(dir string, closed []string) []string {
	if slices.ContainsFunc(closed, func(c string) bool { return within(dir, c) }) {
		return nil
	}
	if !slices.ContainsFunc(closed, func(c string) bool { return within(c, dir) }) {
		return []string{dir}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Type()&os.ModeSymlink != 0:
		case e.IsDir():
			out = append(out, opened(path, closed)...)
		case !slices.Contains(closed, path):
			out = append(out, path)
		}
	}
	return out
}

// needs are the files of its own that a handler cannot do without: its program, what is beside one that runs in place, the
// files among its arguments with what is beside them, and its working directory.
func (s Spec) needs() []string {
	program := realPath(s.Path)
	needs := []string{program}
	if s.Argv0 == "" || realPath(s.Argv0) == program {
		needs = append(needs, filepath.Dir(program), realPath(filepath.Dir(s.Path)))
	}
	for _, arg := range s.Args {
		if !filepath.IsAbs(arg) {
			continue
		}
		if info, err := os.Stat(arg); err == nil {
			needs = append(needs, realPath(arg))
			if info.Mode().IsRegular() {
				needs = append(needs, filepath.Dir(realPath(arg)))
			}
		}
	}
	if s.Dir != "" {
		needs = append(needs, realPath(s.Dir))
	}
	slices.Sort(needs)
	return slices.Compact(needs)
}

// kept lists what a handler needs although it is below a closed path.
func (s Spec) kept(closed []string) (kept []string) {
	for _, path := range s.needs() {
		if slices.ContainsFunc(closed, func(c string) bool { return path != c && within(path, c) }) {
			kept = append(kept, path)
		}
	}
	return kept
}

// needed are those of Needed that are below a closed path. They may belong to several handlers, so none may change them.
func (s Spec) needed(closed []string) (needed []string) {
	for _, path := range s.Needed {
		path = realPath(path)
		if _, err := os.Stat(path); err == nil && slices.ContainsFunc(closed, func(c string) bool { return path != c && within(path, c) }) {
			needed = append(needed, path)
		}
	}
	return needed
}

// OwnTemp reports whether a process needs a temporary directory of its own, in its private one, because it may not make
// files in that of the machine.
func (p *Plan) OwnTemp() bool {
	if p.Foreign() {
		return true
	}
	temp := realPath(os.TempDir())
	return p.walls.landlock && !p.walls.mask && slices.ContainsFunc(p.machine.Closed, func(c string) bool { return within(c, temp) })
}

// OwnHome reports whether a process needs a home of its own, because the one at path is not for it.
func (p *Plan) OwnHome(path string) bool {
	return p.Foreign() || path != "" && (p.walls.mask || p.walls.landlock) && slices.ContainsFunc(p.machine.Closed, func(c string) bool { return within(realPath(path), c) })
}

// capabilities are those that remain to a process; nil for all that there are.
func (p *Plan) capabilities() []uintptr {
	switch {
	case p.UID() != 0:
		return []uintptr{}
	case p.walls.landlock || p.walls.mask:
		return rootMay
	}
	return nil
}

// groupsRoot is where control groups are. A handler that could write there would lift its own limits.
const groupsRoot = "/sys/fs/cgroup"
