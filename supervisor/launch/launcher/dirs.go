//go:build linux

package launcher

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

const (
	dirPrefix = "p-"
	// dirName is how long the rest of a name is: paths of sockets are short of room.
	dirName = 8
	// tempDir in a private directory is the handler's alone.
	tempDir = "tmp"
)

// privateMode: the user may do everything, and so may the daemon's group, to which everything belongs that is made there.
const privateMode = 0o2770

// checkDirs is an error when private directories cannot be made in a directory.
func checkDirs(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("use %s for private directories of handlers: %w", dir, err)
	}
	const wanted = unix.S_IFDIR | 0o3771
	if st.Mode != wanted || int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
		return fmt.Errorf("use %s for private directories of handlers: it must be a directory of user %d and group %d with the mode 3771, and is of %d and %d with %o",
			dir, os.Geteuid(), os.Getegid(), st.Uid, st.Gid, st.Mode&0o7777)
	}
	return nil
}

// as runs f on a thread of its own whose files are those of a user. With group 0 it keeps the group of this process.
func as(uid, gid uint32, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		if gid != 0 {
			_ = unix.Setfsgid(int(gid))
			if now, _ := unix.SetfsgidRetGid(-1); now != int(gid) {
				result <- errors.New("the launcher may not change groups")
				return
			}
		}
		_ = unix.Setfsuid(int(uid)) // for this thread alone, and without the rights of root
		if now, _ := unix.SetfsuidRetUid(-1); now != int(uid) {
			result <- errors.New("the launcher may not change users")
			return
		}
		result <- f()
	}()
	return <-result
}

// makeDir makes a private directory of a user, and one for temporary files in it.
func makeDir(base string, a account) (string, error) {
	dir := filepath.Join(base, dirPrefix+rand.Text()[:dirName])
	err := as(a.uid, 0, func() error {
		if err := unix.Mkdir(dir, privateMode&0o777); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err != nil {
			return err
		}
		if st.Mode&0o7777 != privateMode || st.Uid != a.uid || int(st.Gid) != os.Getegid() {
			_ = unix.Rmdir(dir)
			return fmt.Errorf("it got the mode %o: the launcher needs UMask=0007", st.Mode&0o7777)
		}
		return unix.Mkdir(filepath.Join(dir, tempDir), 0o700)
	})
	if err != nil {
		return "", fmt.Errorf("make a private directory in %s for user %d: %w", base, a.uid, err)
	}
	return dir, nil
}

// removeDir removes a private directory, with the rights of its user and no more. It gives up when stop is closed.
func removeDir(dir string, a account, stop <-chan struct{}) error {
	err := as(a.uid, a.gid, func() error { return launch.EmptyDir(dir, stop) })
	return errors.Join(err, as(a.uid, 0, func() error { return os.Remove(dir) }))
}

func (se *session) makeDir(a account) (string, error) {
	if !se.s.mayRun(a.uid, a.gid) {
		return "", fmt.Errorf("user %d is not one of handlers", a.uid)
	}
	se.mu.Lock()
	n := len(se.dirs)
	se.mu.Unlock()
	if n >= maxDirs {
		return "", fmt.Errorf("there are %d private directories already", n)
	}
	dir, err := makeDir(se.s.cfg.Dirs, a)
	if err == nil {
		se.mu.Lock()
		se.dirs[dir] = a
		se.mu.Unlock()
	}
	return dir, err
}

// removeDir answers when the directory is gone. That can take long, so it is done beside other requests.
func (se *session) removeDir(call uint64, dir string) error {
	se.mu.Lock()
	a, ok := se.dirs[dir]
	delete(se.dirs, dir)
	se.mu.Unlock()
	if !ok { // it went with an earlier connection, perhaps
		return se.answer(wire.Answer{Call: call, Error: fmt.Sprintf("%q is not a private directory of this connection", dir)})
	}
	se.s.removals.Go(func() { // which no next daemon waits for
		if se.answer(failed(wire.Answer{Call: call}, removeDir(dir, a, se.s.stopping))) != nil {
			se.conn.Close()
		}
	})
	return nil
}
