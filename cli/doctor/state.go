package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/runtime/journal"
)

// How much room the state directory should have: the journal and copies of handlers live there.
const (
	roomFail = 64 << 20
	roomWarn = 512 << 20
)

// directory is what is known of the state directory.
type directory struct {
	path    string
	missing bool
	isDir   bool
	mode    fs.FileMode
	owner   int
	ours    bool // it is this user's, or this user is root
	// room is free for the owner, in bytes; -1 where it is not known.
	room     int64
	readOnly bool
	noExec   bool
}

// stateDir looks at the state directory.
func stateDir(_ context.Context, w *world) []Result {
	d := directory{path: w.settings.StateDir, room: -1}
	info, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.missing = true
	case errors.Is(err, fs.ErrPermission):
		return []Result{skip("run it as root, or as the daemon's user", "%s may not be looked at by this user", d.path)}
	case err != nil:
		return []Result{fail("check the path and the disk", "%s cannot be used: %s", d.path, sentence(err))}
	default:
		d.isDir, d.mode = info.IsDir(), info.Mode().Perm()
		d.owner, _ = ownerOf(d.path)
		d.ours = os.Geteuid() == 0 || d.owner == os.Geteuid()
	}
	at := d.path
	for d.missing && at != filepath.Dir(at) { // the room of the disk that it will be on
		at = filepath.Dir(at)
		if _, err := os.Stat(at); err == nil {
			break
		}
	}
	d.room, d.readOnly, d.noExec = disk(at)
	return []Result{aboutState(d)}
}

func aboutState(d directory) Result {
	free := ""
	if d.room >= 0 {
		free = ", " + sizeText(d.room) + " free"
	}
	switch {
	case !d.missing && !d.isDir:
		return fail("move it away, or name another with state_dir", "%s is not a directory", d.path)
	case d.readOnly:
		return fail("mount it writable, or name another with state_dir", "the disk of %s is read-only", d.path)
	case d.room >= 0 && d.room < roomFail:
		return fail("free space on its disk", "%s has only %s free", d.path, sizeText(d.room))
	case d.missing:
		return ok("%s is made at the first start%s", d.path, free)
	case d.mode&0o022 != 0:
		return fail(fmt.Sprintf("chmod 0700 %s", shell.Word(d.path)), "others than its owner may write to %s (mode %04o)", d.path, d.mode)
	case d.mode&0o077 != 0:
		return warn(fmt.Sprintf("chmod 0700 %s", shell.Word(d.path)), "others than its owner may look into %s (mode %04o)", d.path, d.mode)
	case d.room >= 0 && d.room < roomWarn:
		return warn("free space on its disk", "%s has only %s free", d.path, sizeText(d.room))
	case d.noExec:
		return warn("mount it without noexec: else handlers run in place and cannot be rolled back", "the disk of %s is mounted noexec", d.path)
	case !d.ours:
		return ok("%s belongs to user %d, as whom the daemon must run%s", d.path, d.owner, free)
	}
	return ok("%s, mode %04o%s", d.path, d.mode, free)
}

// journalFile looks at the journal, without a lock that would keep a daemon from it.
func journalFile(_ context.Context, w *world) []Result {
	c, err := journal.Inspect(w.settings.StateDir)
	return []Result{aboutJournal(filepath.Join(w.settings.StateDir, journal.FileName), c, err)}
}

func aboutJournal(path string, c journal.Condition, err error) Result {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return skip("run it as root, or as the daemon's user", "%s may not be read by this user", path)
	case err != nil:
		return fail("restore it, or move it away to start without the tasks in it: see the operator's manual", "%s", sentence(err))
	case c.Missing:
		return ok("there is none yet")
	case c.InUse:
		return ok("%s is in use by a daemon, %s", path, sizeText(c.Size))
	case c.NoKey:
		return warn("put the key back, unless it is the systemd credential "+journal.CredentialName, "%s is sound, but the file %s that opens it is missing", path, journal.KeyFileName)
	}
	return ok("%s is sound, %s", path, sizeText(c.Size))
}

func sizeText(n int64) string {
	switch {
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	case n < 1<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
