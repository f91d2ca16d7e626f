package client

import (
	"context"
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

// maxSameName bounds how many files with the same name Save writes into one directory.
const maxSameName = 10_000

// partSuffix ends the name of a file that is still being written, and of no other. It is removed when its download fails,
// or, where the whole program was ended, by the next Save of that name.
const partSuffix = ".blocksd-part"

// Save downloads the artifacts that the task has published so far into dir, and returns their paths in the order of
// publication. It creates dir if needed. It uses only the last element of a file name, so that it never writes outside
// dir, no name begins with a dot, and the extension of the media type is added to a name that has none. It never
// overwrites a file: the new file gets a number. A file has its name only when it is complete. On an error it also
// returns the paths of complete files.
func (s *Session) Save(ctx context.Context, dir string, options ...SaveOption) ([]string, error) {
	var o saveOptions
	for _, set := range options {
		set(&o)
	}
	fail := func(err error) error {
		return fmt.Errorf("save artifacts of task %s in %s: %w", s.taskID, dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fail(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fail(err)
	}
	defer root.Close()
	s.mu.Lock()
	known := s.log.ended
	s.mu.Unlock()
	if !known {
		if err := s.readHistory(ctx); err != nil {
			return nil, fail(translate(err))
		}
	}
	var paths []string
	for i, a := range s.Artifacts() {
		name, err := s.saveOne(ctx, root, a, o, withExtension(fileName(a.FileName, i), a.MIMEType))
		if err != nil {
			return paths, fail(err)
		}
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths, nil
}

// SaveOption is an option of Save.
type SaveOption func(*saveOptions)

type saveOptions struct{ progress func(a Artifact, done int64) }

// SaveProgress calls f while an artifact is downloaded, with how many bytes have been written so far. It must not block.
func SaveProgress(f func(a Artifact, done int64)) SaveOption {
	return func(o *saveOptions) { o.progress = f }
}

// countedReader says how much has been read of an artifact.
type countedReader struct {
	io.Reader
	a        Artifact
	done     int64
	progress func(a Artifact, done int64)
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.done += int64(n); n > 0 && r.progress != nil {
		r.progress(r.a, r.done)
	}
	return n, err
}

// saveOne writes an artifact under a name of its own and returns that.
func (s *Session) saveOne(ctx context.Context, root *os.Root, a Artifact, o saveOptions, name string) (string, error) {
	body, err := s.Open(ctx, a)
	if err != nil {
		return "", err
	}
	defer body.Close()
	part, temporary, unlock, err := createPart(root, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	_, err = io.Copy(part, &countedReader{Reader: body, a: a, progress: o.progress})
	if closeErr := part.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("write %s: %w", temporary, closeErr)
	}
	if err == nil { // still locked
		name, err = moveNew(root, temporary, name)
	}
	if err != nil {
		_ = root.Remove(temporary) // a partial file is worse than none
		return "", err
	}
	return name, nil
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
	mine, err := f.Stat()
	if err != nil || !mine.Mode().IsRegular() {
		return
	}
	if now, err := root.Lstat(part); err == nil && os.SameFile(mine, now) {
		_ = root.Remove(part) // what cannot be removed stays, and the next name is taken
	}
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
	for strings.HasSuffix(name, partSuffix) {
		name = strings.TrimSuffix(name, partSuffix)
	}
	name = strings.TrimLeft(strings.TrimSpace(name), ".- ")
	if name == "" {
		return "artifact-" + strconv.Itoa(index)
	}
	if len(name) > limit {
		ext := path.Ext(name)
		if len(ext) > 20 {
			ext = ""
		}
		name = strings.ToValidUTF8(name[:limit-len(ext)], "") + ext
	}
	return name
}
