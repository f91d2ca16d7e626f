package catalog

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// One call after each burst of changes, and some while changes do not end.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changes := make(chan struct{}, 1)
		began := time.Now()
		var fired []time.Duration
		go debounce(ctx, changes, 500*time.Millisecond, 5*time.Second, func() { fired = append(fired, time.Since(began)) })
		burst := func(n int) {
			for range n {
				changes <- struct{}{}
				time.Sleep(100 * time.Millisecond)
			}
		}
		burst(3) // at 0, 100 and 200 ms
		time.Sleep(9700 * time.Millisecond)
		burst(60) // from 10 s to 15.9 s
		time.Sleep(time.Minute)
		cancel()
		synctest.Wait()
		want := []time.Duration{700 * time.Millisecond, 15 * time.Second, 16400 * time.Millisecond}
		if d := cmp.Diff(want, fired); d != "" {
			t.Error(d)
		}
	})
}

func TestWatch(t *testing.T) {
	dir := plugins(t)
	late := filepath.Join(dir, "late")
	changed := make(chan struct{}, 10000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, WatchConfig{
			Dirs: []string{dir, late}, Log: slog.New(slog.DiscardHandler), Quiet: time.Millisecond, Rescan: time.Hour, Look: 5 * time.Millisecond,
			Changed: func() { changed <- struct{}{} },
		})
	}()
	defer func() { cancel(); <-done }()
	await := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatalf("not told about %s", what)
		}
	}
	await("the beginning")
	file(t, filepath.Join(dir, "new"), "x", 0o755)
	await("a new file")
	if err := os.Remove(filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	await("a file that is gone")
	if err := os.Mkdir(late, 0o755); err != nil {
		t.Fatal(err)
	}
	await("a new directory")
	file(t, filepath.Join(late, "new"), "x", 0o755)
	await("a file in it")
}

// However a path comes to lead elsewhere, and whatever happens where it leads afterwards, is seen.
func TestWatchFollowsPaths(t *testing.T) {
	type paths struct{ root, watched, file string }
	link := func(t *testing.T, target, path string) {
		t.Helper()
		// As ln -s and mv -T do.
		if err := errors.Join(os.Symlink(target, path+".new"), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	mkdir := func(t *testing.T, dirs ...string) {
		t.Helper()
		for _, dir := range dirs {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := map[string]struct {
		prepare, change func(t *testing.T, p paths)
		in              string // directory below root that counts afterwards
	}{
		"the directory is a link": {
			func(t *testing.T, p paths) { mkdir(t, p.root+"/1", p.root+"/2"); link(t, "1", p.watched) },
			func(t *testing.T, p paths) { link(t, "2", p.watched) }, "2",
		},
		"a link to a link": {
			func(t *testing.T, p paths) {
				mkdir(t, p.root+"/1", p.root+"/2")
				link(t, "1", p.root+"/current")
				link(t, p.root+"/current", p.watched)
			},
			func(t *testing.T, p paths) { link(t, "2", p.root+"/current") }, "2",
		},
		"a link above": {
			func(t *testing.T, p paths) {
				mkdir(t, p.root+"/1/d", p.root+"/2/d")
				link(t, "1", p.root+"/up")
				link(t, "up/d", p.watched)
			},
			func(t *testing.T, p paths) { link(t, "2", p.root+"/up") }, "2/d",
		},
		"made anew": {
			func(t *testing.T, p paths) { mkdir(t, p.watched) },
			func(t *testing.T, p paths) {
				if err := os.RemoveAll(p.watched); err != nil {
					t.Fatal(err)
				}
				mkdir(t, p.watched)
			}, "watched",
		},
		"replaced": {
			func(t *testing.T, p paths) { mkdir(t, p.watched, p.root+"/next") },
			func(t *testing.T, p paths) {
				if err := errors.Join(os.Rename(p.watched, p.root+"/before"), os.Rename(p.root+"/next", p.watched)); err != nil {
					t.Fatal(err)
				}
			}, "watched",
		},
		"the link leads nowhere at first": {
			func(t *testing.T, p paths) { link(t, "late", p.watched) },
			func(t *testing.T, p paths) { mkdir(t, p.root+"/late") }, "late",
		},
		"a handler behind a link that is swapped": {
			func(t *testing.T, p paths) {
				mkdir(t, p.watched, p.root+"/1", p.root+"/2")
				file(t, p.root+"/1/h", "1", 0o755)
				file(t, p.root+"/2/h", "2", 0o755)
				link(t, "1", p.root+"/current")
				link(t, "../current/h", p.watched+"/h")
			},
			func(t *testing.T, p paths) { link(t, "2", p.root+"/current") }, "watched",
		},
		"a handler behind a link that is written": {
			func(t *testing.T, p paths) {
				mkdir(t, p.watched)
				file(t, p.root+"/h", "1", 0o755)
				link(t, "../h", p.watched+"/h")
			},
			func(t *testing.T, p paths) { file(t, p.root+"/h", "two", 0o755) }, "watched",
		},
		"data of a ConfigMap": {
			func(t *testing.T, p paths) {
				mkdir(t, p.watched+"/..1", p.watched+"/..2")
				file(t, p.watched+"/..1/h", "1", 0o755)
				file(t, p.watched+"/..2/h", "2", 0o755)
				link(t, "..1", p.watched+"/..data")
				link(t, "..data/h", p.watched+"/h")
			},
			func(t *testing.T, p paths) { link(t, "..2", p.watched+"/..data") }, "watched",
		},
		"a file behind a link": {
			func(t *testing.T, p paths) {
				mkdir(t, p.watched, p.root+"/1", p.root+"/2")
				file(t, p.root+"/1/card", "1", 0o644)
				link(t, "1/card", p.file)
			},
			func(t *testing.T, p paths) { file(t, p.root+"/1/card", "two", 0o644) }, "watched",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := plugins(t)
			p := paths{root, filepath.Join(root, "watched"), filepath.Join(root, "file")}
			tt.prepare(t, p)
			changed := make(chan struct{}, 10000)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				Watch(ctx, WatchConfig{
					Dirs: []string{p.watched}, Files: []string{p.file}, Log: slog.New(slog.DiscardHandler),
					Quiet: time.Millisecond, Rescan: time.Hour, Look: 5 * time.Millisecond, Changed: func() { changed <- struct{}{} },
				})
			}()
			defer func() { cancel(); <-done }()
			await := func(what string) {
				t.Helper()
				select {
				case <-changed:
				case <-time.After(patience):
					t.Fatalf("not notified of %s", what)
				}
			}
			await("the beginning")
			tt.change(t, p)
			await("the change")
			// Another change may still be reported. What happens there from now on must be reported as well, by the kernel.
			file(t, filepath.Join(root, tt.in, "more"), "x", 0o755)
			for seen := false; !seen; {
				await("a new file")
				_, err := os.Stat(filepath.Join(p.watched, "more"))
				seen = err == nil
			}
		})
	}
}

// Of a file's directory only the file counts.
func TestWatchFile(t *testing.T) {
	dir := plugins(t)
	changed := make(chan struct{}, 10000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, WatchConfig{
			Files: []string{filepath.Join(dir, "pins")}, Log: slog.New(slog.DiscardHandler), Quiet: 500 * time.Millisecond, Rescan: time.Hour,
			Changed: func() { changed <- struct{}{} },
		})
	}()
	defer func() { cancel(); <-done }()
	<-changed // the beginning
	// Others change all the time, which must not hold back the news about this one.
	stop := make(chan struct{})
	noise := make(chan struct{})
	go func() {
		defer close(noise)
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(filepath.Join(dir, "journal"), nil, 0o600)
			}
		}
	}()
	file(t, filepath.Join(dir, "pins"), "x", 0o644)
	select {
	case <-changed:
	case <-time.After(patience):
		t.Error("not told")
	}
	close(stop)
	<-noise
	if n := len(changed); n > 1 {
		t.Errorf("told %d times more", n)
	}
}
