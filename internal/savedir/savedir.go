// Package savedir saves files that somebody else has named into a directory. It never writes outside of the directory and
// never replaces a file; a file has its name only when it is complete.
package savedir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// maxSameName bounds how many files with the same name Save writes into a directory.
const maxSameName = 10_000

// partSuffix ends the name of a file that is still being written, and of no other. It is removed when its download fails,
// or, where the whole program was ended, by the next Save of that name.
const partSuffix = ".blocksd-part"

// Dir is a directory that files are saved in.
type Dir struct {
	path string
	root *os.Root
}

// Open opens a directory, and creates it if needed. The caller closes it.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Dir{path, root}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Save writes what from brings under a name that [Name] has made, with a number where that is taken, and returns the path.
// Where from fails, or the file cannot be written, nothing is left.
func (d *Dir) Save(name string, from io.Reader) (string, error) {
	part, temporary, unlock, err := createPart(d.root, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	_, err = io.Copy(part, from)
	if closeErr := part.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("write %s: %w", temporary, closeErr)
	}
	if err == nil { // still locked
		name, err = moveNew(d.root, temporary, name)
	}
	if err != nil {
		_ = d.root.Remove(temporary) // a partial file is worse than none
		return "", err
	}
	return filepath.Join(d.path, name), nil
}

// Name is a safe name for a file that somebody else has named: only the last element counts, it never begins with a dot
// or a dash, and the extension of the media type is added to a name that has none. A file without a name gets its index.
func Name(sent, mimeType string, index int) string {
	return withExtension(fileName(sent, index), mimeType)
}

// createPart creates the file that name is written to until it is complete, and locks it until unlock.
func createPart(root *os.Root, name string) (f *os.File, created string, unlock func(), err error) {
	err = firstFree(name, func(try string) (err error) {
		created = try + partSuffix
		removeAbandoned(root, created)
		if f, err = root.OpenFile(created, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return err
		}
		var locked bool
		if unlock, locked = lock(f); !locked { // somebody takes it for an abandoned one
			f.Close()
			return fs.ErrExist
		}
		if canLock && !isAt(root, created, f) { // or has done so
			unlock()
			f.Close()
			return fs.ErrExist
		}
		return nil
	})
	return f, created, unlock, err
}

// removeAbandoned removes a part whose program has ended: nobody has it locked.
func removeAbandoned(root *os.Root, part string) {
	if !canLock {
		return // it may be in use
	}
	f, err := root.Open(part)
	if err != nil {
		return
	}
	defer f.Close()
	unlock, locked := lock(f)
	if !locked {
		return
	}
	defer unlock()
	if isAt(root, part, f) {
		_ = root.Remove(part) // what cannot be removed stays, and the next name is taken
	}
}

// isAt reports whether name still is the file f, a regular one.
func isAt(root *os.Root, name string, f *os.File) bool {
	mine, err := f.Stat()
	if err != nil || !mine.Mode().IsRegular() {
		return false
	}
	now, err := root.Lstat(name)
	return err == nil && os.SameFile(mine, now)
}

// createNew creates a file that does not exist yet: name.ext, "name (2).ext", "name (3).ext" and so on.
func createNew(root *os.Root, name string) (f *os.File, created string, err error) {
	err = firstFree(name, func(try string) (err error) {
		created = try
		f, err = root.OpenFile(created, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		return err
	})
	return f, created, err
}

// moveNew gives a complete file its name, or the next one that is free.
func moveNew(root *os.Root, from, name string) (got string, err error) {
	err = firstFree(name, func(try string) error {
		got = try
		return root.Link(from, try) // unlike a rename it never replaces a file
	})
	if err == nil {
		return got, root.Remove(from)
	}
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return "", err
	}
	// A file system without hard links: the name is taken first.
	f, got, err := createNew(root, name)
	if err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return got, root.Rename(from, got)
}

// firstFree calls use with name, and with a number added as long as the name is taken.
func firstFree(name string, use func(string) error) error {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	try := name
	for n := 2; ; n++ {
		err := use(try)
		if !errors.Is(err, fs.ErrExist) || n > maxSameName {
			return err
		}
		try = stem + " (" + strconv.Itoa(n) + ")" + ext
	}
}

// fileName makes a provider's file name safe: the last element of a Unix or Windows path, without control characters or
// dots and dashes at its beginning, which hide a file and make an option of it in `rm *`, and short enough for a file system.
func fileName(sent string, index int) string {
	const limit = 200 // bytes; file systems allow 255, and Save may add a number
	name := sent[strings.LastIndexAny(sent, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, name)
	name = trimmed(name)
	if name == "" {
		return "artifact-" + strconv.Itoa(index)
	}
	if len(name) > limit {
		ext := path.Ext(name)
		if len(ext) > 20 {
			ext = ""
		}
		name = trimmed(strings.ToValidUTF8(name[:limit-len(ext)], "") + ext) // the cut may have left the end of a part
	}
	return name
}

// trimmed is a name without what must not stand at its ends, whatever stands behind that.
func trimmed(name string) string {
	for {
		was := name
		name = strings.TrimLeft(strings.TrimSpace(strings.TrimSuffix(name, partSuffix)), ".- ")
		if name == was {
			return name
		}
	}
}
