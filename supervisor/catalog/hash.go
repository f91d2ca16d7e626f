package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

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

// Hashes remembers the checksums of files, and reads a file again only when it has changed. Its zero value is ready, and it
// is safe for concurrent use.
type Hashes struct {
	mu    sync.Mutex
	known map[string]known // by path; guarded by mu
}

type known struct {
	id  identity
	sum string
}

// identity changes whenever a file's content may have.
type identity struct {
	device, inode uint64
	size          int64
	changed       time.Time
}

// Of returns the SHA-256 of a file in hexadecimal.
func (h *Hashes) Of(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	id := identity{uint64(st.Dev), st.Ino, st.Size, changeTime(st)}
	h.mu.Lock()
	k, ok := h.known[path]
	h.mu.Unlock()
	if ok && k.id == id {
		return k.sum, nil
	}
	sum, err := Hash(path)
	if err != nil {
		return "", err
	}
	// A change within the same tick of the clock would not show in the identity, unless the file is read-only.
	if info.Mode().Perm()&0o222 == 0 || time.Since(id.changed) > clockTick {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.known == nil {
			h.known = map[string]known{}
		}
		h.known[path] = known{id, sum}
	}
	return sum, nil
}

// clockTick is how old a time of change must be for a later change to have another one, on any file system.
const clockTick = 2 * time.Second
