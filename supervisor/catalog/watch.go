package catalog

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// WatchConfig says what to watch.
type WatchConfig struct {
	// Dirs are watched for changes of the files in them. They need not exist.
	Dirs []string
	// Files are watched too, without what else is in their directories.
	Files []string
	// Trees are directories of projects: their sources are watched, in all directories below, and what is installed in them.
	Trees []string
	// Stamps are files that are looked at now and then; they need not exist.
	Stamps []string
	Log    *slog.Logger
	// Quiet is how long nothing must change before Changed is called; default 500 ms. While changes go on and on it is
	// called every ten times of it.
	Quiet time.Duration
	// Rescan is how often Changed is called although nothing was seen to change, because not every file system reports changes;
	// default 1 min, and every 5 s while a directory cannot be watched.
	Rescan time.Duration
	// Look is how often it is checked whether the paths still lead where they did: the kernel does not report it when a
	// directory above, or a link on the way, is replaced. Default 2 s.
	Look time.Duration
	// Changed looks at the files. It is called by one goroutine, which it may keep busy.
	Changed func()
}

const (
	defaultQuiet  = 500 * time.Millisecond
	defaultRescan = time.Minute
	defaultLook   = 2 * time.Second
	// blindRescan is the interval while some directory is not watched.
	blindRescan = 5 * time.Second
)

// Watch calls Changed after changes until ctx ends, within Look and Quiet also when what changed is a link or a directory
// on the way. What changed is for Changed to find out: notices of the kernel can be
// lost, and say nothing about contents.
func Watch(ctx context.Context, c WatchConfig) {
	if c.Quiet <= 0 {
		c.Quiet = defaultQuiet
	}
	if c.Rescan <= 0 {
		c.Rescan = defaultRescan
	}
	if c.Look <= 0 {
		c.Look = defaultLook
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		c.Log.Warn("plugins directories are looked at every few seconds, because they cannot be watched", "err", err)
		poll(ctx, min(c.Rescan, blindRescan), c.Changed)
		return
	}
	defer watcher.Close()
	dirs, whole := slices.Clone(c.Dirs), map[string]bool{}
	for i, dir := range dirs {
		dirs[i] = filepath.Clean(dir)
		whole[dirs[i]] = true
	}
	files := map[string]bool{}
	for _, f := range c.Files {
		files[filepath.Clean(f)] = true
		dirs = append(dirs, filepath.Dir(filepath.Clean(f)))
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	changes := make(chan struct{}, 1)
	w := watches{watcher: watcher, fixed: dirs, trees: c.Trees, ids: map[string]directory{}}
	rescan := func() time.Duration {
		if len(w.ids) < len(w.dirs) {
			return min(c.Rescan, blindRescan)
		}
		return c.Rescan
	}
	w.update()
	ctx, cancel := context.WithCancel(ctx)
	debounced := make(chan struct{})
	go func() {
		defer close(debounced)
		debounce(ctx, changes, c.Quiet, 10*c.Quiet, c.Changed)
	}()
	defer func() { cancel(); <-debounced }()
	notify := func() {
		select {
		case changes <- struct{}{}:
		default: // a change is pending already
		}
	}
	timer := time.NewTimer(rescan())
	defer timer.Stop()
	look := time.NewTicker(c.Look)
	defer look.Stop()
	leads := func() string {
		return trails(c.Dirs, slices.Concat(c.Files, c.Stamps, installedIn(c.Trees)))
	}
	lead := leads()
	notify() // for what changed before the directories were watched
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-watcher.Events:
			if !ok {
				return
			}
			if e.Has(fsnotify.Remove | fsnotify.Rename) {
				delete(w.ids, filepath.Clean(e.Name)) // if it is one of the directories, it is not watched any more
			}
			// The directory of a file may be full of what changes all the time.
			if whole[filepath.Dir(e.Name)] || whole[e.Name] || files[e.Name] || w.source(e.Name) {
				notify()
			}
			if e.Has(fsnotify.Create) && w.grow(e.Name) {
				notify()
			}
		case err := <-watcher.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				notify()
			} else if err != nil {
				c.Log.Warn("a plugins directory may not be watched any more; it is looked at again soon", "err", err)
			}
		case <-look.C:
			now := leads()
			if w.update() || now != lead {
				lead = now
				timer.Reset(rescan())
				notify()
			}
		case <-timer.C:
			timer.Reset(rescan())
			notify()
		}
	}
}

// watches are the directories that are watched. The kernel watches a directory and not its path, so each is added again
// when its path leads to another one.
type watches struct {
	watcher *fsnotify.Watcher
	fixed   []string
	trees   []string
	dirs    []string             // fixed, and those in trees
	inTree  map[string]bool      // those that hold sources
	ids     map[string]directory // of those that are watched, by path
}

// maxTreeDirs bounds the directories of one project that are watched.
const maxTreeDirs = 1000

// look finds the directories to watch.
func (w *watches) look() {
	w.dirs, w.inTree = slices.Clone(w.fixed), map[string]bool{}
	for _, tree := range w.trees {
		n := 0
		tree = filepath.Clean(tree)
		if real, err := filepath.EvalSymlinks(tree); err == nil {
			tree = real
		}
		_ = filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil && path != tree: // what cannot be read is not watched
				return fs.SkipDir
			case err == nil && !e.IsDir():
				return nil
			case path != tree && SkippedDir(e.Name()):
				return fs.SkipDir
			}
			if n++; n > maxTreeDirs {
				return fs.SkipAll
			}
			w.dirs, w.inTree[path] = append(w.dirs, path), true
			return nil
		})
	}
	slices.Sort(w.dirs)
	w.dirs = slices.Compact(w.dirs)
}

// source reports whether a path may belong to a project: a source file, or a program that was built, whatever its name is.
func (w *watches) source(path string) bool {
	if !w.inTree[filepath.Dir(path)] {
		return false
	}
	if Source(filepath.Base(path)) {
		return true
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// grow watches a directory that is new in a project, and reports whether it is one.
func (w *watches) grow(path string) bool {
	if !w.inTree[filepath.Dir(path)] || SkippedDir(filepath.Base(path)) {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.IsDir() && w.update()
}

// installedIn are the files that change when something is installed in a project.
func installedIn(trees []string) (paths []string) {
	for _, tree := range trees {
		for _, pattern := range installed {
			found, _ := filepath.Glob(filepath.Join(tree, pattern))
			paths = append(paths, found...)
		}
	}
	return paths
}

// directory tells one directory from another.
type directory struct{ device, inode uint64 }

// update watches what can be watched, and reports whether there is something new.
func (w *watches) update() (found bool) {
	w.look()
	for dir := range w.ids {
		if !slices.Contains(w.dirs, dir) { // it is gone
			delete(w.ids, dir)
		}
	}
	for _, dir := range w.dirs {
		var st syscall.Stat_t
		_ = syscall.Stat(dir, &st) // zero if there is none
		id := directory{uint64(st.Dev), st.Ino}
		if old, ok := w.ids[dir]; ok && old == id {
			continue
		}
		_ = w.watcher.Remove(dir) // it may have ended by itself
		delete(w.ids, dir)
		if w.watcher.Add(dir) == nil {
			w.ids[dir] = id
			found = true
		}
	}
	return found
}

// debounce calls fire once no change has come for quiet, and at the latest when changes have gone on for limit.
func debounce(ctx context.Context, changes <-chan struct{}, quiet, limit time.Duration, fire func()) {
	var due <-chan time.Time
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			now := time.Now()
			if due == nil {
				last = now.Add(limit)
			}
			due = time.After(max(0, min(quiet, last.Sub(now))))
		case <-due:
			due = nil
			fire()
		}
	}
}

func poll(ctx context.Context, every time.Duration, fire func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		fire()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
