package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/internal/atomicfile"
)

// keepPerHandler contents are kept for each handler, the running one included.
const keepPerHandler = 3

// Store holds the programs that run, each under its checksum: what was checked is what is executed, whatever happens to the
// file that it came from, and the contents that a handler had before are at hand. It is safe for concurrent use.
type Store struct {
	dir string

	mu sync.Mutex
	// records of handlers by name, as in the file; accepted is what each may run now. Guarded by mu.
	records  map[string]*record
	accepted map[string]string
}

// record is what is remembered of one handler.
type record struct {
	// Used are the contents that got ready, the latest first.
	Used []string `json:"used"`
	// Held: as long as its file has the content File, Run is executed instead.
	Held *held `json:"held,omitempty"`
}

type held struct {
	File string `json:"file"`
	Run  string `json:"run"`
}

const recordsFile = "handlers.json"

// OpenStore opens or makes the store in dir. A store on a file system that nothing may be executed from is an error.
func OpenStore(dir string) (*Store, error) {
	fail := func(err error) (*Store, error) {
		return nil, fmt.Errorf("open the store of handlers %s: %w", dir, plain(err))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	if noexec(dir) {
		return fail(errors.New("its file system is mounted noexec, so programs cannot run from it: choose another state_dir"))
	}
	s := &Store{dir: dir, records: map[string]*record{}, accepted: map[string]string{}}
	b, err := os.ReadFile(s.path(recordsFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fail(err)
	default:
		// What cannot be read costs the way back and nothing else.
		if json.Unmarshal(b, &s.records) != nil || s.records == nil {
			s.records = map[string]*record{}
		}
		for name, r := range s.records {
			if r == nil {
				delete(s.records, name)
			}
		}
	}
	s.sweep()
	return s, nil
}

// sweep removes what an interrupted copy left behind. Versions before 0.1 named it *.tmp.
func (s *Store) sweep() {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if atomicfile.IsTemp(e.Name()) || strings.HasSuffix(e.Name(), ".tmp") {
			_ = os.Remove(s.path(e.Name()))
		}
	}
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// Accept takes the content of a handler's file, which must have the checksum sum, and says what to execute: the copy of
// it, or that of another content that the handler was rolled back to. pin is the checksum that the handler must have, ""
// for any: it ends a rollback to something else.
func (s *Store) Accept(name, file, sum, pin string) (run, runSum string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.heldLocked(name, sum); held != "" && (pin == "" || pin == held) {
		s.accepted[name] = held
		return s.path(held), held, nil
	}
	if r := s.records[name]; r != nil && r.Held != nil { // there is something newer
		if err := s.holdLocked(r, nil); err != nil {
			return "", "", err
		}
	}
	if !s.has(sum) {
		if err := s.copy(file, sum); err != nil {
			return "", "", fmt.Errorf("handler %s is not loaded because %s cannot be copied to the store: %w", name, file, plain(err))
		}
	}
	s.accepted[name] = sum
	return s.path(sum), sum, nil
}

func (s *Store) has(sum string) bool {
	info, err := os.Stat(s.path(sum))
	return err == nil && info.Mode().IsRegular()
}

// copy brings a file into the store. A copy that was interrupted is never taken for a whole one.
func (s *Store) copy(file, sum string) error {
	in, err := openFile(file)
	if err != nil {
		return err
	}
	defer in.Close()
	return write(s.path(sum), in, sum)
}

// write makes an executable file of a content that must have the checksum sum.
func write(path string, from io.Reader, sum string) error {
	out, err := atomicfile.Create(path, 0o555)
	if err != nil {
		return err
	}
	defer out.Close() // nothing after the commit
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), from); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return errors.New("it changed meanwhile")
	}
	if err := out.Commit(); err != nil {
		return err
	}
	return awaitClosed(path)
}

// inherited is how long a process that is being started may hold what was open here when it was forked. Nothing else holds it.
const inherited = 10 * time.Second

// awaitClosed waits until nobody has a file open for writing, because the kernel does not execute such a file. A process that was
// forked during the copy has inherited it until its own exec; neither the end of fork nor syscall.ForkLock says that this
// is over, and to hold that lock would let no process start while a large file is copied. But the kernel gives a lease for
// reading on exactly the files that it would execute. Where it knows no leases, a start that fails is tried again as always.
func awaitClosed(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // and with it goes the lease
	for deadline := time.Now().Add(inherited); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if leased(f) {
			break
		}
	}
	return nil
}

// Used records that a content of a handler has become ready, and deletes the contents that are no longer needed.
func (s *Store) Used(name, sum string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.has(sum) {
		return nil // runs in place
	}
	r := s.records[name]
	if r == nil {
		r = &record{}
		s.records[name] = r
	}
	if len(r.Used) > 0 && r.Used[0] == sum {
		return nil
	}
	r.Used = append([]string{sum}, slices.DeleteFunc(r.Used, func(old string) bool { return old == sum })...)
	r.Used = r.Used[:min(len(r.Used), keepPerHandler)]
	return errors.Join(s.saveLocked(), s.collectLocked())
}

// Forget drops the claim of a handler that was removed. What it ran before is kept, in case it comes back.
func (s *Store) Forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.accepted, name)
}

// Rollback says what a handler is to be rolled back to.
type Rollback struct {
	Handler string
	// File is the checksum of what its file holds, Running of what runs.
	File, Running string
	// Pin is the checksum that the handler must have, "" for any.
	Pin string
}

// ErrPinned is the error of a rollback to a program that the handler may not run.
var ErrPinned = errors.New("it is pinned")

// Rollback makes the content that a handler ran before the running one the one to execute, until its file changes from
// what it is now. undo takes that back. An error has changed nothing; with ErrPinned, previous is the content that the pin
// does not let run.
func (s *Store) Rollback(b Rollback) (previous string, undo func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[b.Handler]
	if r == nil {
		r = &record{}
	}
	earlier := slices.DeleteFunc(slices.Clone(r.Used), func(sum string) bool { return sum == b.Running || !s.has(sum) })
	if len(earlier) == 0 {
		return "", nil, fmt.Errorf("handler %s cannot be rolled back: it has not run with another content yet", b.Handler)
	}
	previous = earlier[0]
	if b.Pin != "" && !slices.Contains(earlier, b.Pin) {
		return previous, nil, ErrPinned
	}
	if b.Pin != "" {
		previous = b.Pin
	}
	hold := &held{File: b.File, Run: previous}
	if previous == b.File {
		hold = nil
	}
	before := r.Held
	if err := s.holdLocked(r, hold); err != nil {
		return "", nil, err
	}
	undo = func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.Held != hold { // something newer counts
			return nil
		}
		return s.holdLocked(r, before)
	}
	return previous, undo, nil
}

// holdLocked changes what a handler is held at. An error has changed nothing.
func (s *Store) holdLocked(r *record, hold *held) error {
	before := r.Held
	r.Held = hold
	err := s.saveLocked()
	if err != nil {
		r.Held = before
	}
	return err
}

// Held returns the content that a handler was rolled back to, "" when it runs what its file holds.
func (s *Store) Held(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.records[name]; r != nil && r.Held != nil {
		return r.Held.Run
	}
	return ""
}

// HeldFor is Held as long as the handler's file has the checksum sum, and what it was rolled back to is there.
func (s *Store) HeldFor(name, sum string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heldLocked(name, sum)
}

func (s *Store) heldLocked(name, sum string) string {
	if r := s.records[name]; r != nil && r.Held != nil && r.Held.File == sum && s.has(r.Held.Run) {
		return r.Held.Run
	}
	return ""
}

func (s *Store) saveLocked() error {
	b, err := json.MarshalIndent(s.records, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(s.path(recordsFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", s.path(recordsFile), plain(err))
	}
	return nil
}

// collectLocked deletes the contents that no handler runs, may run or can be rolled back to. A program that still runs keeps its
// file until it ends, by the kernel.
func (s *Store) collectLocked() error {
	needed := map[string]bool{}
	for _, sum := range s.accepted {
		needed[sum] = true
	}
	for _, r := range s.records {
		for _, sum := range r.Used {
			needed[sum] = true
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("clean the store of handlers %s: %w", s.dir, plain(err))
	}
	for _, e := range entries {
		if name := e.Name(); IsChecksum(name) && !needed[name] {
			_ = os.Remove(s.path(name)) // tried again the next time
		}
	}
	return nil
}

// IsChecksum reports whether s is a SHA-256 in lower-case hexadecimal.
func IsChecksum(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}
