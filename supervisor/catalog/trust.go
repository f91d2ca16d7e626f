package catalog

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// distrustPath says why dir or a directory above it cannot be trusted, "" when all can.
func (s *scan) distrustPath(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return fmt.Sprintf("%s cannot be examined: %v", at, plain(err))
		}
		// Others may add files to a sticky directory of root but not replace ours; but nothing is loaded from one.
		sticky := at != dir && info.Mode()&fs.ModeSticky != 0 && owner(info) == 0
		if reason := s.distrust(at, info); reason != "" && !sticky {
			return reason
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

// Check says why a program that the configuration names by its path is not to be run, or only with a warning; found is
// false when it may be run, or does not exist. It is held to the same rule as what lies in a plugins directory.
func (sc *Scanner) Check(name, path string) (skip Skip, found bool) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Skip{}, false // the start says it
	}
	info, err := os.Lstat(real)
	if err != nil {
		return Skip{}, false
	}
	s := scan{uid: uint32(os.Getuid()), accounts: sc.accounts}
	if !info.Mode().IsRegular() {
		return Skip{Path: path, Name: name, Reason: fmt.Sprintf("handler %s is not loaded because %s is not a file", name, path)}, true
	}
	reason := s.distrustPath(filepath.Dir(real))
	if reason == "" {
		reason = s.distrust(real, info)
	}
	switch {
	case reason == "":
		return Skip{}, false
	case sc.WarnOnly:
		return Skip{Path: path, Name: name, Used: true, Reason: fmt.Sprintf("blocksd run does not use %s because %s", path, reason)}, true
	}
	return Skip{Path: path, Name: name, Reason: fmt.Sprintf("handler %s is not loaded because %s", name, reason)}, true
}

// distrust says who else may change a file or directory, "" when only root and the daemon's own user may.
func (s *scan) distrust(path string, info fs.FileInfo) string {
	if uid := owner(info); uid != 0 && uid != s.uid {
		return fmt.Sprintf("%s belongs to user %d instead of root or user %d", path, uid, s.uid)
	}
	mode := info.Mode().Perm()
	switch {
	case mode&0o002 != 0, mode&0o020 != 0 && !s.accounts.private(path, info):
		return fmt.Sprintf("%s may be written by its group or by others (mode %04o): chmod go-w it", path, mode)
	}
	return ""
}

// accounts are the users and groups of this machine. Files are read when they are needed, once; the zero value reads
// those of the system.
type accounts struct {
	passwd, group string // paths, "" for those of the system
	read          bool
	users         []account
	groups        []members
}

type account struct {
	name     string
	uid, gid uint32
}

type members struct {
	gid   uint32
	names []string
}

// private reports whether the group of a file is the owner's alone, as it is by default where every user has a group of
// their own and files are made writable for it: the owner and no other user is in it or has it as the primary one. OpenSSH decides
// about its files in the same way on such systems. With an access control list the group's permission may be that of
// others, so then it is not.
func (a *accounts) private(path string, info fs.FileInfo) bool {
	if n, err := unix.Getxattr(path, "system.posix_acl_access", nil); n > 0 || err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return false
	}
	if !a.read {
		a.load()
	}
	uid, gid := owner(info), info.Sys().(*syscall.Stat_t).Gid
	known, member := false, false
	for _, g := range a.groups {
		if g.gid != gid {
			continue
		}
		known = true
		for _, name := range g.names {
			if !a.is(name, uid) {
				return false
			}
			member = true
		}
	}
	for _, u := range a.users {
		if u.gid == gid {
			if u.uid != uid {
				return false
			}
			member = true
		}
	}
	// A group that seems empty may have members that are not in these files.
	return known && member
}

// is reports whether a name is one of the user's.
func (a *accounts) is(name string, uid uint32) bool {
	return slices.ContainsFunc(a.users, func(u account) bool { return u.name == name && u.uid == uid })
}

// load reads the files. What cannot be read has nobody in it, so nothing is private then.
func (a *accounts) load() {
	a.read, a.users, a.groups = true, nil, nil
	for _, f := range fields(a.passwd, "/etc/passwd", 4) {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 == nil && err2 == nil {
			a.users = append(a.users, account{f[0], uint32(uid), uint32(gid)})
		}
	}
	for _, f := range fields(a.group, "/etc/group", 4) {
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err == nil {
			a.groups = append(a.groups, members{uint32(gid), strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' || r == ' ' })})
		}
	}
}

// fields returns the lines with at least n members of a file like /etc/passwd.
func fields(path, system string, n int) (out [][]string) {
	if path == "" {
		path = system
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if parts := strings.Split(lines.Text(), ":"); len(parts) >= n {
			out = append(out, parts)
		}
	}
	if lines.Err() != nil {
		return nil
	}
	return out
}

func owner(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }
