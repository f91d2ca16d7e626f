package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/wire"
)

var done = wire.Terminal{State: wire.Completed}

// TestModes: nobody but the owner gets at the files, whatever it was before.
func TestModes(t *testing.T) {
	dir := t.TempDir()
	shut(t, open(t, dir, nil))
	for _, name := range []string{FileName, LogName} {
		path := filepath.Join(dir, name)
		mode := func() fs.FileMode {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			return info.Mode().Perm()
		}
		if m := mode(); m != 0o600 {
			t.Errorf("a new %s has mode %04o", name, m)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		shut(t, open(t, dir, nil))
		if m := mode(); m != 0o600 {
			t.Errorf("an old %s keeps mode %04o", name, m)
		}
	}
}

// TestNoSecretsOnDisk: neither tokens nor inputs can be read from the file.
func TestNoSecretsOnDisk(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	b := agent(t, j, "worker")
	e, written := accept(b, Task{ID: "task-secret", Message: []byte(`{"writeToken":"token-secret"}`), Timetoken: "17000000000000001"})
	wait(t, written)
	wait(t, decide(e, wire.Terminal{State: wire.Failed, Error: "text-secret"}))
	e.Finish(Finished{ID: "task-secret", Outcome: wire.Terminal{State: wire.Failed, Error: "text-secret"}, At: time.Now()})
	b.SetInstanceID("instance-secret")
	b.SetCursor("channel-secret", "17000000000000001")
	shut(t, j)
	if content := image(t, dir); bytes.Contains(content, []byte("secret")) || bytes.Contains(content, []byte("17000000000000001")) {
		t.Error("the file holds plain text")
	}
}

// TestForgets: outcomes are kept for their time and up to their number.
func TestForgets(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1_777_000_000, 0)
	cfg := func(c *Config) {
		c.Now = func() time.Time { return now }
		c.MaxRemembered = 100
	}
	j := open(t, dir, cfg)
	b := agent(t, j, "worker")
	for i := range 300 {
		e := b.Accept(Task{ID: fmt.Sprint(i)}, nil)
		e.Finish(Finished{ID: fmt.Sprint(i), Outcome: done, At: now})
		if i%7 == 0 {
			flush(t, j, b)
		}
	}
	flush(t, j, b)
	if got := read(t, b).Finished; len(got) != 100 || got[0].ID != "200" {
		t.Errorf("%d are remembered, the oldest %v", len(got), got[0])
	}
	shut(t, j)
	now = now.Add(59 * time.Minute)
	j = open(t, dir, cfg)
	b = agent(t, j, "worker")
	e := b.Accept(Task{ID: "new"}, nil)
	e.Finish(Finished{ID: "new", Outcome: done, At: now})
	flush(t, j, b)
	if got := read(t, b).Finished; len(got) != 100 {
		t.Errorf("%d are remembered before their time is over", len(got))
	}
	now = now.Add(2 * time.Minute)
	if got := read(t, b).Finished; len(got) != 1 {
		t.Errorf("%d are remembered after their time", len(got))
	}
	for range 10 { // each checkpoint does a share of the work
		flush(t, j, b)
		read(t, b)
	}
	shut(t, j)
	j = open(t, dir, cfg)
	if got := j.store.finished["worker"]; got != 1 {
		t.Errorf("%d are still in the file", got)
	}
	shut(t, j)
}

// TestGroupCommit: what is posted while the disk is busy shares the next write, so that many tasks cost few writes.
func TestGroupCommit(t *testing.T) {
	j := open(t, t.TempDir(), nil)
	defer shut(t, j)
	before := j.store.commits
	var posters sync.WaitGroup
	const agents, tasks = 20, 50
	for i := range agents {
		b := agent(t, j, fmt.Sprint("agent", i))
		posters.Go(func() {
			var all []<-chan error
			for n := range tasks {
				_, written := accept(b, Task{ID: fmt.Sprint(n), Message: make([]byte, 400)})
				all = append(all, written)
			}
			for _, written := range all {
				if err := <-written; err != nil {
					t.Error(err)
				}
			}
		})
	}
	posters.Wait()
	flush(t, j, agent(t, j, "agent0"))
	if n := j.store.commits - before; n > agents*tasks/4 {
		t.Errorf("%d tasks took %d writes", agents*tasks, n)
	}
}

// A full disk is played by putting the file /dev/full, of the kernel, in place of the journal's.
var disk struct {
	sync.Mutex
	full bool
}

// TestDamage: whatever is done to the file, opening it is an error in one sentence or brings only what was written, and
// the file stays as it is.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	b := agent(t, j, "worker")
	for i := range 40 {
		e, written := accept(b, Task{ID: fmt.Sprint(i), Message: bytes.Repeat([]byte{byte(i)}, 300)})
		if i%2 == 0 {
			wait(t, decide(e, done))
		}
		if i%4 == 0 {
			e.Finish(Finished{ID: fmt.Sprint(i), Outcome: done, At: time.Now()})
		}
		wait(t, written)
	}
	flush(t, j, b)
	want := read(t, b)
	shut(t, j)
	whole := image(t, dir)

	damages := map[string][]byte{
		"emptied of its head": append(make([]byte, 8192), whole[8192:]...),
		"text":                []byte(strings.Repeat("this is no journal\n", 1000)),
		"one byte":            {1},
	}
	for at := 0; at < len(whole); at += 509 {
		flipped := bytes.Clone(whole)
		flipped[at] ^= 0x55
		damages[fmt.Sprint("byte ", at, " changed")] = flipped
	}
	for size := 1; size < len(whole); size += 4096 {
		damages[fmt.Sprint("cut to ", size)] = whole[:size]
	}
	for page := 0; page*4096 < len(whole); page++ {
		zeroed := bytes.Clone(whole)
		clear(zeroed[page*4096 : min(len(zeroed), (page+1)*4096)])
		damages[fmt.Sprint("page ", page, " zeroed")] = zeroed
	}
	refused := 0
	for name, content := range damages {
		dir := t.TempDir()
		putImage(t, dir, content)
		j, err := Open(Config{Dir: dir, Secret: testSecret, mapBytes: 4096, logBytes: testLogBytes, Timeouts: Timeouts{Lock: time.Second}})
		if err != nil {
			refused++
			if s := err.Error(); !strings.Contains(s, dir) || strings.Contains(s, "\n") || !strings.Contains(s, "move") {
				t.Errorf("%s: %s", name, s)
			}
			if !bytes.Equal(content, image(t, dir)) {
				t.Errorf("%s: the file was changed", name)
			}
			continue
		}
		if got := read(t, agent(t, j, "worker")); !cmp.Equal(want, got) {
			// A broken head means the commit before.
			if len(got.Open) > len(want.Open)+1 || len(got.Finished) > len(want.Finished) {
				t.Errorf("%s: -want +got:\n%s", name, cmp.Diff(want, got))
			}
		}
		shut(t, j)
	}
	if refused < 40 { // most of the pages of such a file are not in use
		t.Errorf("only %d of %d damages were noticed", refused, len(damages))
	}
}

// TestKeys: where the key comes from, and what is said when it is not the right one.
func TestKeys(t *testing.T) {
	dir, credentials := t.TempDir(), t.TempDir()
	secret, err := Secret(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, KeyFileName)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
	if again, err := Secret(dir, credentials); err != nil || !bytes.Equal(secret, again) {
		t.Errorf("the key is another at the second start: %v", err)
	}
	j, err := Open(Config{Dir: dir, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	shut(t, j)

	credential := filepath.Join(credentials, CredentialName)
	put := func(path, content string, mode fs.FileMode) {
		t.Helper()
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // one of mode 0400 cannot be written
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	put(credential, strings.Repeat("x", 32), 0o400)
	other, err := Secret(dir, credentials)
	if err != nil || bytes.Equal(other, secret) {
		t.Errorf("the credential does not come first: %v", err)
	}
	_, err = Open(Config{Dir: dir, Secret: other})
	says(t, err, "another key", dir)
	unusableAsItIs(t, err)
	put(credential, "short", 0o400)
	_, err = Secret(dir, credentials)
	says(t, err, credential, "5 bytes")
	put(path, string(secret), 0o640)
	_, err = Secret(dir, "")
	says(t, err, path, "chmod 600")
	unusableAsItIs(t, err)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = Secret(dir, "")
	says(t, err, path, "missing")
	unusableAsItIs(t, err)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made that opens nothing: %v", err)
	}
}

// TestUnusable: one sentence for each reason.
func TestUnusable(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	_, err := Open(Config{Dir: dir, Secret: testSecret, Timeouts: Timeouts{Lock: 10 * time.Millisecond}})
	says(t, err, "another process", dir)
	if errors.Is(err, ErrUnusable) {
		t.Error("a journal that another process has open is not taken for one that may be free later")
	}
	shut(t, j)
	if err := j.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := j.Agent("worker"); !errors.Is(err, ErrClosed) {
		t.Errorf("an agent of a closed journal: %v", err)
	}
	_, err = Open(Config{Dir: filepath.Join(dir, "nowhere"), Secret: testSecret})
	says(t, err, "no such file or directory", "nowhere")
	if _, err := open2(t).Agent("a/b"); err == nil {
		t.Error("an agent with a slash in its name")
	}
}

func unusableAsItIs(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrUnusable) {
		t.Errorf("%v: taken for something that passes", err)
	}
}

func open2(t *testing.T) *Journal {
	j := open(t, t.TempDir(), nil)
	t.Cleanup(func() { shut(t, j) })
	return j
}

func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q does not say %q in one sentence", err, p)
		}
	}
}
