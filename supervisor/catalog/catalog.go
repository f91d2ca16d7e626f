// Package catalog finds handler binaries in the plugins directories. The directory is the trust boundary: whoever may write
// into it, or into a directory above it, runs code as the daemon; so only what root or the daemon's own user alone can
// change is taken.
package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// CardSuffix follows the name of a handler in the name of its card file.
const CardSuffix = ".agent-card.json"

// Found is a handler binary.
type Found struct {
	// Name is the file name.
	Name string
	// Path is absolute, with symbolic links resolved in its directory.
	Path string
	// SHA256 of the file, in hexadecimal.
	SHA256 string
	// CardPath of the card beside it, "" when there is none.
	CardPath string
}

// Skip is a file or directory that was not taken, with the reason in one sentence.
type Skip struct {
	Path   string
	Reason string
}

// Scan looks into dirs, in order. Files that are obviously no handlers (dotfiles, *.tmp, cards, directories, files without
// execute permission that do not look like programs) are passed over in silence; what somebody might expect to run is
// reported in skipped. The error is for a directory that cannot be read; what was found in the others is returned with it.
func Scan(dirs []string) (found []Found, skipped []Skip, err error) {
	s := scan{uid: uint32(os.Getuid()), byName: map[string]string{}}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, s.dir(dir))
	}
	return s.found, s.skipped, errors.Join(errs...)
}

type scan struct {
	uid     uint32
	found   []Found
	skipped []Skip
	byName  map[string]string // name → path
}

func (s *scan) skip(path, format string, args ...any) {
	s.skipped = append(s.skipped, Skip{Path: path, Reason: fmt.Sprintf(format, args...)})
}

func (s *scan) dir(dir string) error {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return fmt.Errorf("read plugins directory %s: %w; create it, or remove it from the configuration", dir, plain(err))
	}
	if reason := s.distrustPath(abs); reason != "" {
		s.skip(abs, "plugins directory %s is not used because %s", abs, reason)
		return nil
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return fmt.Errorf("read plugins directory %s: %w; check its permissions", dir, plain(err))
	}
	for _, e := range entries {
		s.entry(abs, e.Name())
	}
	return nil
}

func (s *scan) entry(dir, name string) {
	path := filepath.Join(dir, name)
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, CardSuffix) {
		return
	}
	info, err := os.Lstat(path)
	if err != nil {
		return // gone since the directory was read
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		// A link is as good as what it leads to, in every directory on the way.
		target, err := filepath.EvalSymlinks(path)
		if err != nil {
			s.skip(path, "handler %s is not loaded because the link leads nowhere", path)
			return
		}
		if reason := s.distrustPath(filepath.Dir(target)); reason != "" {
			s.skip(path, "handler %s is not loaded because %s", path, reason)
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
		if looksLikeProgram(path) {
			s.skip(path, "handler %s is not loaded because it is not executable: chmod 0755 it, or remove it", path)
		}
		return
	}
	if reason := s.distrust(path, info); reason != "" {
		s.skip(path, "handler %s is not loaded because %s", path, reason)
		return
	}
	if other, ok := s.byName[name]; ok {
		s.skip(path, "handler %s is not loaded because %s has the same name and comes first", path, other)
		return
	}
	sum, err := Hash(path)
	if err != nil {
		s.skip(path, "handler %s is not loaded because it cannot be read: %v", path, plain(err))
		return
	}
	f := Found{Name: name, Path: path, SHA256: sum}
	card := filepath.Join(dir, name+CardSuffix)
	if info, err := os.Stat(card); err == nil && info.Mode().IsRegular() {
		if reason := s.distrust(card, info); reason != "" {
			s.skip(card, "card %s is not used because %s", card, reason)
		} else {
			f.CardPath = card
		}
	}
	s.byName[name] = path
	s.found = append(s.found, f)
}

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

func (s *scan) distrust(path string, info fs.FileInfo) string {
	if uid := owner(info); uid != 0 && uid != s.uid {
		return fmt.Sprintf("%s belongs to user %d instead of root or user %d", path, uid, s.uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Sprintf("%s may be written by its group or by others (mode %04o): chmod go-w it", path, info.Mode().Perm())
	}
	return ""
}

func owner(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// looksLikeProgram is true for ELF files, scripts and zip archives.
func looksLikeProgram(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4)
	n, _ := io.ReadFull(f, head)
	return slices.ContainsFunc([]string{"\x7fELF", "#!", "PK\x03\x04"}, func(magic string) bool {
		return strings.HasPrefix(string(head[:n]), magic)
	})
}

// Hash returns the SHA-256 of a file in hexadecimal.
func Hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// plain strips the operation and the path, which the sentence around the error names already.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
