package catalog

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// WatchConfig says what to watch.
type WatchConfig struct {
	// Dirs are watched for changes of the files in them. They need not exist.
	Dirs []string
	// Files are watched too, without what else is in their directories.
	Files []string
	Log   *slog.Logger
	// Quiet is how long nothing must change before Changed is called; default 500 ms. While changes go on and on it is
	// called every ten times of it.
	Quiet time.Duration
	// Rescan is how often Changed is called although nothing was seen to change, because not every file system reports changes;
	// default 1 min, and every 5 s while a directory cannot be watched.
	Rescan time.Duration
	// Changed looks at the files. It is called by one goroutine, which it may keep busy.
	Changed func()
}

const (
	defaultQuiet  = 500 * time.Millisecond
	defaultRescan = time.Minute
	// blindRescan is the interval while some directory is not watched.
	blindRescan = 5 * time.Second
)

// Watch calls Changed after changes until ctx ends. What changed is for Changed to find out: notices of the kernel can be
// lost, and say nothing about contents.
func Watch(ctx context.Context, c WatchConfig) {
	if c.Quiet <= 0 {
		c.Quiet = defaultQuiet
	}
	if c.Rescan <= 0 {
		c.Rescan = defaultRescan
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
		dirs = append(dirs, filepath.Dir(f))
	}
	changes := make(chan struct{}, 1)
	// watch adds what can be watched; a directory that was made again needs it, and adding one twice does no harm.
	watch := func() time.Duration {
		next := c.Rescan
		for _, dir := range dirs {
			if err := watcher.Add(dir); err != nil {
				next = min(next, blindRescan)
			}
		}
		return next
	}
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
	timer := time.NewTimer(watch())
	defer timer.Stop()
	notify() // for what changed before the directories were watched
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-watcher.Events:
			if !ok {
				return
			}
			// The directory of a file may be full of what changes all the time.
			if whole[filepath.Dir(e.Name)] || whole[e.Name] || files[e.Name] {
				notify()
			}
		case err := <-watcher.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				notify()
			} else if err != nil {
				c.Log.Warn("a plugins directory may not be watched any more; it is looked at again soon", "err", err)
			}
		case <-timer.C:
			timer.Reset(watch())
			notify()
		}
	}
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
