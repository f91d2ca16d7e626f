package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/internal/atomicfile"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/blocks"
	"github.com/blocksd/blocksd/sandbox/pubnub"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Names in a state directory.
const (
	stateFile = "network.json"
	lockFile  = "lock"
	filesDir  = "files"
)

// stateVersion is the version of the state file's form.
const stateVersion = 1

// A change is written saveDelay after it happened, and a write takes at most one part in saveShare of the time.
const (
	saveDelay = 500 * time.Millisecond
	saveShare = 20
)

// state is the directory in which a sandbox is kept; its zero value is none.
type state struct {
	dir     string
	lock    *os.File
	changed chan struct{}
}

// identity is what makes a sandbox the same one after a restart.
type identity struct {
	Version int
	keys
	Network *blocks.State
	// What is in the plain keysets: their spaces by subscribe key, which tokens are revoked, and the files.
	Plain   map[string]pubsub.Snapshot `json:",omitempty"`
	Revoked map[string]time.Time       `json:",omitempty"`
	Files   []pubnub.SavedFile         `json:",omitempty"`
}

// keys are what clients of a sandbox have to know.
type keys struct {
	AdminToken                  string
	Playground, Paid, Open, PAM wire.Keyset
	PAMSecret                   string
	Orgs                        []blocks.Organization
}

func newIdentity() identity {
	return identity{Version: stateVersion, keys: keys{
		AdminToken: secret("sb_"), Playground: newKeyset(), Paid: newKeyset(), Open: newKeyset(), PAM: newKeyset(),
		PAMSecret: secret("sec-c-"),
		Orgs: []blocks.Organization{
			{ID: "org_1", Name: "Sandbox", UserID: "user_1", APIKey: secret("bk_")},
			{ID: "org_2", Name: "Other", UserID: "user_2", APIKey: secret("bk_")},
			{ID: "org_3", Name: "Broke", UserID: "user_3", APIKey: secret("bk_"), Broke: true},
		},
	}}
}

// openState takes the state directory, if there is one, and returns what it holds, or a new identity.
func (s *Sandbox) openState() (identity, error) {
	dir := s.cfg.StateDir
	if dir == "" {
		return keptIdentity(s.cfg.KeysFile)
	}
	fail := func(err error) (identity, error) {
		return identity{}, errors.Join(fmt.Errorf("keep the sandbox in %s: %w", dir, err), s.state.close())
	}
	if err := os.MkdirAll(filepath.Join(dir, filesDir), 0o700); err != nil {
		return fail(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // it holds keys
		return fail(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fail(err)
	}
	s.state = state{dir: dir, lock: lock, changed: make(chan struct{}, 1)}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fail(errors.New("another sandbox uses the directory: stop it or choose another one"))
	}
	s.blobs = blob.Keep(filepath.Join(dir, filesDir))
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return newIdentity(), nil
	}
	if err != nil {
		return fail(err)
	}
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil || id.Version != stateVersion || id.Network == nil || len(id.Orgs) == 0 {
		return fail(fmt.Errorf("%s cannot be read by this version: delete it to start over, or choose another directory", stateFile))
	}
	if err := id.removeLeftovers(filepath.Join(dir, filesDir)); err != nil {
		return fail(err)
	}
	return id, nil
}

// removeLeftovers deletes the files that the state does not name: of uploads that were in progress at the end, and of
// what was written after the last state. Files of other programs stay.
func (id *identity) removeLeftovers(dir string) error {
	named := map[string]bool{}
	for _, f := range id.Network.Files {
		named[f.Blob] = true
	}
	for _, f := range id.Files {
		named[f.Blob] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !named[e.Name()] && e.Type().IsRegular() && blob.Ours(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// onChange is what the network calls when there is something to write, nil if nothing is ever written.
func (st *state) onChange() func() {
	if st.changed == nil {
		return nil
	}
	changed := st.changed
	return func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// close releases the directory.
func (st *state) close() error {
	if st.lock == nil {
		return nil
	}
	lock := st.lock
	st.lock, st.dir = nil, ""
	return lock.Close()
}

// persist writes the state some time after each change.
func (s *Sandbox) persist(ctx context.Context) {
	if s.state.dir == "" {
		return
	}
	pause := saveDelay
	for {
		select {
		case <-s.state.changed:
		case <-ctx.Done():
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done(): // the last write follows
			timer.Stop()
			return
		}
		begin := time.Now()
		if err := s.save(); err != nil {
			s.cfg.Log.Error("the sandbox is not kept", "err", err)
		}
		pause = max(saveDelay, saveShare*time.Since(begin))
	}
}

// save writes the state atomically.
func (s *Sandbox) save() error {
	if s.state.dir == "" {
		return nil
	}
	fail := func(err error) error { return fmt.Errorf("keep the sandbox in %s: %w", s.state.dir, err) }
	st := s.blocks.Snapshot()
	id := identity{
		Version: stateVersion, keys: s.keys, Network: &st,
		Plain: map[string]pubsub.Snapshot{}, Revoked: s.managers[len(s.managers)-1].Revoked(), Files: s.pubnub.Saved(),
	}
	for _, space := range s.spaces[len(s.spaces)-2:] { // the plain ones come last
		id.Plain[space.SubscribeKey()] = space.Snapshot(nil)
	}
	raw, err := json.Marshal(id)
	if err != nil {
		return fail(err)
	}
	if err := atomicfile.Write(filepath.Join(s.state.dir, stateFile), raw, 0o600); err != nil {
		return fail(err)
	}
	return nil
}

func newKeyset() wire.Keyset {
	return wire.Keyset{PublishKey: "pub-c-" + rand.Text(), SubscribeKey: "sub-c-" + rand.Text()}
}

func secret(prefix string) string { return prefix + rand.Text() }
