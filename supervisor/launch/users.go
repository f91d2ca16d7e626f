package launch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/blocksd/blocksd/internal/atomicfile"
)

// Subject is what a plan is made for.
type Subject struct {
	// Handler is its name. Processes of the same handler share a user.
	Handler   string
	Path, Dir string
	Args      []string
	Needed    []string // as in Spec
}

// Users gives each handler a user of its own, by its name, and remembers which. It is safe for concurrent use.
type Users struct {
	file        string
	first, last uint32

	mu    sync.Mutex
	known map[string]uint32 // by handler; guarded by mu, and as in the file
}

// OpenUsers reads the file of users that were given out. Numbers come from first to last, which nothing else on the machine
// may use.
func OpenUsers(file string, first, last uint32) (*Users, error) {
	u := &Users{file: file, first: first, last: last, known: map[string]uint32{}}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &u.known)
	}
	if err != nil {
		// Numbers that were given out before own files; to give them to others would give those away.
		return nil, fmt.Errorf("read the users of handlers in %s: %w: restore the file, or remove it and every file that a handler has made", file, plain(err))
	}
	for name, uid := range u.known {
		if uid < first || uid > last {
			delete(u.known, name) // of another range
		}
	}
	return u, nil
}

// of returns the user of a handler.
func (u *Users) of(handler string) (account, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if uid, ok := u.known[handler]; ok {
		return account{uid, uid}, nil
	}
	taken := map[uint32]bool{}
	for _, uid := range u.known {
		taken[uid] = true
	}
	for uid := u.first; uid <= u.last; uid++ {
		if taken[uid] || exists(uid) {
			continue
		}
		u.known[handler] = uid
		b, err := json.MarshalIndent(u.known, "", "  ")
		if err == nil {
			err = atomicfile.Write(u.file, append(b, '\n'), 0o600)
		}
		if err != nil {
			delete(u.known, handler)
			return account{}, fmt.Errorf("the user of a handler cannot be written to %s: %w", u.file, plain(err))
		}
		return account{uid, uid}, nil
	}
	return account{}, fmt.Errorf("all users from %d to %d are taken", u.first, u.last)
}

// exists reports whether the machine knows a user or group of this number.
func exists(id uint32) bool {
	n := strconv.FormatUint(uint64(id), 10)
	if _, err := user.LookupId(n); err == nil {
		return true
	}
	_, err := user.LookupGroupId(n)
	return err == nil
}

// mapped reports whether this process can become a user: in a container there may be only some.
func mapped(file string, id uint32) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		return true // a kernel without user namespaces has them all
	}
	for line := range strings.Lines(string(b)) {
		var inside, outside, n uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &n); err == nil && uint64(id) >= inside && uint64(id)-inside < n {
			return true
		}
	}
	return false
}

// overflowUID is what the kernel calls users that a user namespace does not know.
func overflowUID() int {
	b, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return n
		}
	}
	return 65534 // the unit hides the file
}

// ownUser finds a user for a handler that has none configured. why says in one sentence that it gets none.
func (m *Machine) ownUser(s Subject, l Limits) (a *account, why string) {
	switch {
	case m.Users == nil || s.Handler == "" || l.Level != "" && l.Level != Auto && l.Level != OwnUser:
		return nil, ""
	case m.Launcher != nil:
	case m.NoLauncher != "":
		return nil, "the handler has no user of its own because " + m.NoLauncher
	case !m.Privileged || m.Shim == "":
		return nil, "" // another level then says what is missing
	}
	found, err := m.Users.of(s.Handler)
	if err != nil {
		return nil, fmt.Sprintf("the handler has no user of its own because %v", err)
	}
	if m.Launcher != nil {
		if !m.Launcher.gives(found.UID) {
			return nil, fmt.Sprintf("the handler has no user of its own because the launcher gives only users from %d to %d, and not %d: change isolation.users, or the launcher's --users", m.Launcher.first, m.Launcher.last, found.UID)
		}
	} else if !mapped("/proc/self/uid_map", found.UID) || !mapped("/proc/self/gid_map", found.GID) {
		return nil, fmt.Sprintf("the handler has no user of its own because user %d does not exist in this container: give it more users, or set isolation.users", found.UID)
	}
	for _, path := range s.Needed { // without mounts they cannot be shown to it
		if m.Launcher != nil && barred(realPath(path), found, 0o5) != "" {
			return nil, fmt.Sprintf("the handler has no user of its own because it needs %s, which other users than the daemon's cannot read: set CacheDirectory=blocksd in its unit", path)
		}
	}
	if path := m.outOfReach(s, found); path != "" {
		return nil, fmt.Sprintf("the handler has no user of its own because it may not use %s: let others read it and pass the directories above", path)
	}
	return &found, ""
}

// outOfReach returns a file of a handler that a user cannot use, "" when there is none. A program in ELF can be executed
// wherever it is.
func (m *Machine) outOfReach(s Subject, a account) string {
	paths := []string{}
	if s.Dir != "" {
		paths = append(paths, s.Dir)
	}
	if !isELF(s.Path) && m.Launcher == nil { // a launcher hands it over open
		paths = append(paths, s.Path)
	}
	for _, arg := range s.Args { // a script behind its interpreter, say
		if filepath.IsAbs(arg) {
			if _, err := os.Stat(arg); err == nil {
				paths = append(paths, arg)
			}
		}
	}
	hidden := m.Launcher == nil && m.lacksNamespaces() == ""
	for _, path := range paths {
		path = realPath(path)
		need := os.FileMode(0o5)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && path != realPath(s.Path) {
			need = 0o4
		}
		if hidden { // directories on the way are replaced by ones that everybody may pass: see hurdles
			if !may(path, a, need) {
				return path
			}
		} else if at := barred(path, a, need); at != "" {
			return at
		}
	}
	return ""
}

// barred returns what keeps a user from a path: the path itself, which it needs so, or a directory on the way; "" for nothing.
func barred(path string, a account, need os.FileMode) string {
	if !may(path, a, need) {
		return path
	}
	for at := filepath.Dir(path); ; at = filepath.Dir(at) {
		if !may(at, a, 0o1) { // to pass
			return at
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

// hurdles are the directories on the way to paths that a user may not pass, the first on each way. What is behind them is
// closed to the user anyway, so they may be hidden like the daemon's own.
func hurdles(paths []string, a account) (dirs []string) {
	for _, path := range paths {
		found := ""
		for at := filepath.Dir(path); ; at = filepath.Dir(at) {
			if !may(at, a, 0o1) {
				found = at
			}
			if at == filepath.Dir(at) {
				break
			}
		}
		if found != "" && found != "/" {
			dirs = append(dirs, found)
		}
	}
	return dirs
}

// may reports whether the mode of a file lets a user do something, in the bits of others.
func may(path string, a account, need os.FileMode) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	st := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	switch {
	case st.Uid == a.UID:
		mode >>= 6
	case st.Gid == a.GID:
		mode >>= 3
	}
	return mode&need == need
}

func isELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return elf(f)
}

func elf(f io.ReaderAt) bool {
	head := make([]byte, 4)
	_, err := f.ReadAt(head, 0)
	return err == nil && bytes.Equal(head, []byte("\x7fELF"))
}
