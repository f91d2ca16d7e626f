package launch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

const (
	// maxSocketPath is what fits into a Unix socket address on Linux, without the final zero.
	maxSocketPath = 107
	// longestSocket is the longest name below the runtime directory that we or go-plugin's Go server make.
	longestSocket = "/p-4294967295/plugin4294967295"
	processDir    = "p-"
)

// SocketDirs hands out one private directory per process.
type SocketDirs struct {
	base string
	temp bool // base is ours alone and is removed at the end
	log  *slog.Logger

	stop chan struct{}  // closed when nothing is to be removed any more
	work sync.WaitGroup // what is being removed

	mu    sync.Mutex
	open  string // guarded by mu; where other users can come to; "" until it is needed
	extra string // guarded by mu; a second base that is removed at the end
}

// removalTimeout is how long somebody waits for a directory to be removed. How much is in it is up to a handler, so then it goes
// on beside.
const removalTimeout = 2 * time.Second

// OpenSocketDirs creates base with mode 0700 and removes what an earlier daemon left there. When a socket path below base
// would be longer than the kernel takes, a private directory below temp is used instead ("" is the system's). The log hears
// of what cannot be removed; nil for nobody.
func OpenSocketDirs(base, temp string, log *slog.Logger) (*SocketDirs, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &SocketDirs{log: log, stop: make(chan struct{})}
	fits := func(dir string) bool { return len(dir)+len(longestSocket) <= maxSocketPath }
	if base != "" {
		abs, err := filepath.Abs(base)
		if err != nil {
			return nil, fmt.Errorf("use %s as runtime directory: %w", base, err)
		}
		if base = abs; fits(base) {
			return d.at(base)
		}
	}
	dir, err := fallback(base, temp)
	if err != nil {
		return nil, fmt.Errorf("make a private directory for handler sockets: %w; set TMPDIR to a directory that can be written", err)
	}
	if !fits(dir) {
		os.Remove(dir)
		return nil, fmt.Errorf("handler sockets below %s or %s would have paths longer than the %d bytes that the system takes: choose a shorter runtime directory", base, filepath.Dir(dir), maxSocketPath)
	}
	d.temp = true
	return d.at(dir)
}

func (d *SocketDirs) at(base string) (*SocketDirs, error) {
	if err := d.openBase(base); err != nil {
		return nil, err
	}
	d.base = base
	return d, nil
}

// fallback makes a private directory below temp. Its name follows from base, so that the next daemon finds and sweeps what
// one that was killed left behind; but a directory that another user may have put there is not touched.
func fallback(base, temp string) (string, error) {
	if temp == "" {
		temp = os.TempDir()
	}
	if base != "" {
		sum := sha256.Sum256([]byte(base))
		dir := filepath.Join(temp, fmt.Sprintf("blocksd-%d-%x", os.Getuid(), sum[:4]))
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			return dir, nil
		}
		info, statErr := os.Lstat(dir)
		if statErr == nil && info.IsDir() && info.Mode().Perm()&0o066 == 0 && int(info.Sys().(*syscall.Stat_t).Uid) == os.Getuid() {
			return dir, nil
		}
	}
	return os.MkdirTemp(temp, "blocksd-")
}

// openBase makes a directory for private ones, and removes those that are in it. Whatever they hold, they keep no daemon from
// starting.
func (d *SocketDirs) openBase(base string) error {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return fmt.Errorf("make the runtime directory %s: %w", base, plain(err))
	}
	if err := os.Chmod(base, 0o700); err != nil {
		return fmt.Errorf("make the runtime directory %s private: %w", base, plain(err))
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return fmt.Errorf("read the runtime directory %s: %w", base, plain(err))
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !e.IsDir() || !strings.HasPrefix(e.Name(), processDir) })
	if len(entries) == 0 {
		return nil
	}
	// What its handlers had started may have outlived them, and has their environment.
	killMarked(handlerv1.HostSocketVariable+"="+filepath.Join(base, processDir), 0)
	d.wait(func() {
		for _, e := range entries {
			d.removeTree(filepath.Join(base, e.Name()))
		}
	})
	return nil
}

// wait runs f, and waits for its end, but not for long.
func (d *SocketDirs) wait(f func()) {
	done := make(chan struct{})
	d.work.Go(func() { // ends with Close at the latest
		defer close(done)
		f()
	})
	timer := time.NewTimer(removalTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

func (d *SocketDirs) removeTree(dir string) {
	if err := RemoveTree(dir, d.stop); err != nil && !errors.Is(err, errGivenUp) {
		d.log.Warn("what a handler has left could not be removed: remove it by hand", "dir", dir, "err", err)
	}
}

// Base is the directory in use.
func (d *SocketDirs) Base() string { return d.base }

// New makes a directory for one process; the caller removes it.
func (d *SocketDirs) New() (string, error) {
	dir, err := os.MkdirTemp(d.base, processDir)
	if errors.Is(err, fs.ErrNotExist) { // it was removed while we run
		if err = os.MkdirAll(d.base, 0o700); err == nil {
			dir, err = os.MkdirTemp(d.base, processDir)
		}
	}
	if err != nil {
		return "", fmt.Errorf("make a socket directory in %s: %w", d.base, plain(err))
	}
	return dir, nil
}

// NewFor makes a directory for a process with a plan. One that runs as another user owns its directory, and gets it where
// that user can come to: below the system's temporary directory, if need be.
func (d *SocketDirs) NewFor(p *Plan) (string, error) {
	if !p.Foreign() {
		return d.New()
	}
	if l := p.launcher(); l != nil {
		dir, err := l.makeDir(*p.user)
		if err != nil {
			return "", fmt.Errorf("make a socket directory for user %d: %w", p.UID(), err)
		}
		return dir, nil
	}
	if p.walls.mask { // which leads its user there
		dir, err := d.New()
		if err == nil {
			if err = os.Lchown(dir, p.UID(), p.GID()); err != nil {
				os.Remove(dir)
				return "", fmt.Errorf("give the socket directory %s to user %d: %w", dir, p.UID(), plain(err))
			}
		}
		return dir, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == "" {
		if err := d.openToOthersLocked(); err != nil {
			return "", fmt.Errorf("make a socket directory for a handler with a user of its own: %w", err)
		}
	}
	dir, err := os.MkdirTemp(d.open, processDir)
	if err == nil {
		if err = os.Lchown(dir, p.UID(), p.GID()); err != nil {
			os.Remove(dir)
		}
	}
	if err != nil {
		return "", fmt.Errorf("make a socket directory in %s for user %d: %w", d.open, p.UID(), plain(err))
	}
	return dir, nil
}

// Remove removes a directory that NewFor has made for the same plan. What cannot be removed now is removed by the next daemon, or
// the launcher.
func (d *SocketDirs) Remove(p *Plan, dir string) {
	if l := p.launcher(); l != nil {
		_ = l.removeDir(dir)
		return
	}
	d.wait(func() { d.removeTree(dir) })
}

// openToOthersLocked finds a base that other users can pass through, without seeing what is in it.
func (d *SocketDirs) openToOthersLocked() error {
	const passable = 0o711
	base := d.base
	for dir := filepath.Dir(d.base); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&1 == 0 {
			base = ""
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if base == "" {
		var err error
		if base, err = fallback(d.base+" for other users", ""); err != nil {
			return err
		}
		if err := d.openBase(base); err != nil { // sweeps
			return err
		}
		d.extra = base
	}
	if err := os.Chmod(base, passable); err != nil {
		return err
	}
	d.open = base
	return nil
}

// Close removes the base directories that were made for us, as far as that can be done in a short time; the rest is for the next
// daemon.
func (d *SocketDirs) Close() error {
	late := make(chan struct{})
	timer := time.AfterFunc(removalTimeout, func() { close(late) })
	defer timer.Stop()
	close(d.stop)
	d.work.Wait()
	var err error
	if d.temp {
		err = RemoveTree(d.base, late)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.extra != "" {
		err = errors.Join(err, RemoveTree(d.extra, late))
	}
	return err
}
