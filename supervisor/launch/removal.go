package launch

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a handler leaves may be as deep, as large and as closed as it likes. Removing it takes two descriptors and the
// rights that there are, follows no link, and can be given up.

// longestRemoval is how long one directory may take: another process of the same handler may fill it again and again.
const longestRemoval = 5 * time.Minute

var errGivenUp = errors.New("there was more in it than could be removed in time")

// removal empties one directory. What is deeper is moved up into that, so that nothing in it is ever far away.
type removal struct {
	top         *os.File
	prefix      string // of names that were moved up
	moved, done int    // how many were, and how many of those have been dealt with
	tried       int    // how many names it tried to remove
	err         error  // the first
	stop        <-chan struct{}
	end         time.Time
}

// RemoveTree removes a directory with all that is in it, as EmptyDir does.
func RemoveTree(dir string, stop <-chan struct{}) error {
	err := EmptyDir(dir, stop)
	if rmErr := unix.Rmdir(dir); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) && err == nil {
		err = fmt.Errorf("remove %s: %w", dir, rmErr)
	}
	return err
}

// EmptyDir removes all that is in a directory. It goes on after what cannot be removed, and returns the first error. It gives
// up when stop is closed, or it takes too long, but not on what has few names: where the machine has stood still there is
// time for nothing else. All that it does it does in this thread.
func EmptyDir(dir string, stop <-chan struct{}) error {
	top, err := openDirAt(unix.AT_FDCWD, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("empty %s: %w", dir, err)
	}
	defer top.Close()
	r := &removal{top: top, prefix: "removed-" + rand.Text() + "-", stop: stop, end: time.Now().Add(longestRemoval)}
	r.empty(top)
	for r.done < r.moved && !r.stopped() {
		name := r.prefix + strconv.Itoa(r.done)
		r.done++
		d, err := openDirAt(int(top.Fd()), name)
		if err == nil {
			r.empty(d)
			d.Close()
			err = unix.Unlinkat(int(top.Fd()), name, unix.AT_REMOVEDIR)
		}
		r.note(name, err)
	}
	if r.err != nil {
		return fmt.Errorf("empty %s: %w", dir, r.err)
	}
	return nil
}

func (r *removal) note(name string, err error) {
	if err != nil && r.err == nil && !errors.Is(err, fs.ErrNotExist) {
		r.err = fmt.Errorf("%.80q: %w", name, err)
	}
}

func (r *removal) stopped() bool {
	if r.tried < maxNames {
		return false
	}
	select {
	case <-r.stop:
	default:
		if time.Now().Before(r.end) {
			return false
		}
	}
	r.err = cmp.Or(r.err, errGivenUp)
	return true
}

// maxNames is how many names are read at once, and removed at least.
const maxNames = 256

// empty removes what is in a directory, but for what is moved up. It reads the names again as long as that helps: some file
// systems leave names out while others are removed.
func (r *removal) empty(d *os.File) {
	for {
		removed := 0
		for {
			if r.stopped() {
				return
			}
			names, err := d.Readdirnames(maxNames)
			for _, name := range names {
				if d == r.top && strings.HasPrefix(name, r.prefix) {
					continue
				}
				err := r.remove(d, name)
				if err == nil {
					removed++
				}
				r.note(name, err)
			}
			if err != nil {
				if err != io.EOF {
					r.note(d.Name(), err)
				}
				break
			}
		}
		if removed == 0 {
			return
		}
		if _, err := d.Seek(0, io.SeekStart); err != nil {
			r.note(d.Name(), err)
			return
		}
	}
}

// remove removes a file or an empty directory, and moves another directory up.
func (r *removal) remove(d *os.File, name string) error {
	r.tried++
	err := unix.Unlinkat(int(d.Fd()), name, 0)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch dirErr := unix.Unlinkat(int(d.Fd()), name, unix.AT_REMOVEDIR); {
	case dirErr == nil || errors.Is(dirErr, fs.ErrNotExist):
		return dirErr
	case errors.Is(dirErr, unix.ENOTDIR):
		return err
	case !errors.Is(dirErr, unix.ENOTEMPTY) && !errors.Is(dirErr, unix.EEXIST):
		return dirErr
	}
	up := r.prefix + strconv.Itoa(r.moved)
	err = unix.Renameat(int(d.Fd()), name, int(r.top.Fd()), up)
	if errors.Is(err, fs.ErrPermission) { // a directory whose owner may not write to it stays where it is
		if err = openUp(int(d.Fd()), name); err == nil {
			err = unix.Renameat(int(d.Fd()), name, int(r.top.Fd()), up)
		}
	}
	if err == nil {
		r.moved++
	}
	return err
}

// openDirAt opens a directory, and not what a link leads to. One that its owner has closed to itself is opened again to that.
func openDirAt(parent int, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, name, flags, 0)
	if errors.Is(err, fs.ErrPermission) {
		if openUp(parent, name) == nil {
			fd, err = unix.Openat(parent, name, flags, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	const all = 0o700
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && st.Mode&all != all {
		_ = unix.Fchmod(fd, all) // whether that was needed, and worked, is seen later
	}
	return os.NewFile(uintptr(fd), name), nil
}
