// Package catalog finds handler binaries in the plugins directories. The directory is the trust boundary: whoever may write
// into it, or into a directory above it, runs code as the daemon; so only what root or the daemon's own user alone can
// change is taken, unless the scanner only warns.
package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// CardSuffix follows the name of a handler in the name of its card file.
const CardSuffix = ".agent-card.json"

// Found is a handler binary.
type Found struct {
	// Name is the file name.
	Name string
	// Path is absolute, with symbolic links resolved in its directory.
	Path string
	// Root is the plugins directory that it was found in, absolute; Dir is where that leads.
	Root, Dir string
	// SHA256 of the file, in hexadecimal.
	SHA256 string
	// Kind of program that the file holds.
	Kind Kind
	// CardPath is the card file next to it, "" when there is none.
	CardPath string
	// Project is set for the handler of a project, which runs differently from a program of its own.
	Project *Project
}

// Skip is a file or directory that was not taken, with the reason in one sentence.
type Skip struct {
	// Path of a plugins directory is Found.Root.
	Path   string
	Reason string
	// Name of the handler that the file would be; "" for a card, and for a directory, of which nothing was taken.
	Name string
	// Used: it was taken all the same, and Reason is only a warning.
	Used bool
}

// Scanner finds handlers. It reads a file again only when it has changed. It is not safe for concurrent use; its zero value
// is ready.
type Scanner struct {
	// WarnOnly takes what others may change too, and warns of it.
	WarnOnly bool
	// User is the daemon's, where another user scans; 0, whom everybody trusts, for that of this process.
	User int

	hashes   Hashes
	accounts accounts // for tests
}

// Scan looks into dirs, in order. Files that are obviously not handlers (dotfiles, leftovers, cards, directories, files
// without execute permission that do not look like programs) are passed over silently; what somebody might expect to run is
// reported in skipped, like a directory that cannot be used.
func (sc *Scanner) Scan(dirs []string) (found []Found, skipped []Skip) {
	uid := os.Getuid()
	if sc.User != 0 {
		uid = sc.User
	}
	s := scan{hashes: &sc.hashes, uid: uint32(uid), accounts: sc.accounts, warnOnly: sc.WarnOnly, warned: map[string]bool{}, byName: map[string]string{}}
	for _, dir := range dirs {
		s.dir(dir)
	}
	return s.found, s.skipped
}

type scan struct {
	hashes   *Hashes
	uid      uint32
	accounts accounts
	warnOnly bool
	warned   map[string]bool // reasons that were reported already
	found    []Found
	skipped  []Skip
	byName   map[string]string // name → path
}

// skip reports a handler that is not taken; the arguments of format follow the path.
func (s *scan) skip(name, path, format string, args ...any) {
	s.skipped = append(s.skipped, Skip{Path: path, Name: name, Reason: fmt.Sprintf("handler %s is not loaded because "+format, append([]any{path}, args...)...)})
}

func (s *scan) skipDir(dir, format string, args ...any) {
	s.skipped = append(s.skipped, Skip{Path: dir, Reason: fmt.Sprintf(format, args...)})
}

// refuses reports whether something is not to be taken for a reason of trust, "" for none. If it only warns, it does.
func (s *scan) refuses(path, reason string) bool {
	if reason == "" || !s.warnOnly {
		return reason != ""
	}
	if !s.warned[reason] {
		s.warned[reason] = true
		s.skipped = append(s.skipped, Skip{Path: path, Used: true, Reason: "blocksd run does not use " + path + " because " + reason})
	}
	return false
}

func (s *scan) dir(dir string) {
	root, err := filepath.Abs(dir)
	if err != nil {
		root = filepath.Clean(dir)
	}
	abs, err := filepath.EvalSymlinks(root)
	if err != nil {
		s.skipDir(root, "plugins directory %s is not used because it cannot be read: %v; create it, or remove it from the configuration", dir, plain(err))
		return
	}
	if reason := s.distrustPath(abs); s.refuses(abs, reason) {
		s.skipDir(root, "plugins directory %s is not used because %s", abs, reason)
		return
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		s.skipDir(root, "plugins directory %s is not used because it cannot be read: %v; check its permissions", dir, plain(err))
		return
	}
	for _, e := range entries {
		s.entry(root, abs, e.Name())
	}
}

func (s *scan) entry(root, dir, name string) {
	path := filepath.Join(dir, name)
	if leftover(name) || strings.HasSuffix(name, CardSuffix) {
		return
	}
	info, err := os.Lstat(path)
	if err != nil {
		return // removed since the directory was read
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		// A link is trusted as far as its target is, and every directory above that.
		target, err := filepath.EvalSymlinks(path)
		if err != nil {
			s.skip(name, path, "the link leads nowhere")
			return
		}
		if reason := s.distrustPath(filepath.Dir(target)); s.refuses(path, reason) {
			s.skip(name, path, "%s", reason)
			return
		}
		path = target
		if info, err = os.Lstat(path); err != nil {
			return
		}
	}
	if !info.Mode().IsRegular() {
		return
	}
	if info.Mode().Perm()&0o111 == 0 {
		if kind, _ := kindOf(path); kind != 0 {
			s.skip(name, path, "it is not executable: chmod 0755 it, or remove it")
		}
		return
	}
	if reason := s.distrust(path, info); s.refuses(path, reason) {
		s.skip(name, path, "%s", reason)
		return
	}
	if other, ok := s.byName[name]; ok {
		s.skip("", path, "%s has the same name and comes first", other)
		return
	}
	kind, reason := kindOf(path)
	if reason != "" {
		s.skip(name, path, "%s", reason)
		return
	}
	sum, err := s.hashes.Of(path)
	if err != nil {
		s.skip(name, path, "it cannot be read: %v", plain(err))
		return
	}
	f := Found{Name: name, Path: path, Root: root, Dir: dir, SHA256: sum, Kind: kind}
	card := filepath.Join(dir, name+CardSuffix)
	if info, err := os.Stat(card); err == nil && info.Mode().IsRegular() {
		if reason := s.distrust(card, info); s.refuses(card, reason) {
			s.skipped = append(s.skipped, Skip{Path: card, Reason: fmt.Sprintf("card %s is not used because %s", card, reason)})
		} else {
			f.CardPath = card
		}
	}
	s.byName[name] = path
	s.found = append(s.found, f)
}

// plain strips the operation and the path, which the sentence around the error names already.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
