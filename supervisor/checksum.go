package supervisor

import (
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// checksum knows the checksum of a handler's file and reads the file again only when it has changed.
type checksum struct {
	mu   sync.Mutex
	of   identity // guarded by mu
	hash string   // guarded by mu
}

// identity changes whenever a file's content may have.
type identity struct {
	device, inode uint64
	size          int64
	changed       time.Time
}

func (c *checksum) verify(h HandlerConfig) error {
	sum, err := c.read(h.Path)
	if err != nil {
		if pe, ok := err.(*fs.PathError); ok { //nolint:errorlint // made by os, never wrapped
			err = pe.Err
		}
		return &plug.Failure{Reason: unit.Spawn, Text: "handler " + h.Name + " could not be started because " + h.Path + " cannot be read: " + err.Error()}
	}
	if h.SHA256 != "" && !strings.EqualFold(sum, h.SHA256) {
		return &plug.Failure{Reason: unit.Checksum, Text: "handler " + h.Name + " is not started because " + h.Path + " has the checksum " + sum + " instead of " + h.SHA256 +
			": restore the file, or pin the new checksum"}
	}
	return nil
}

func (c *checksum) read(path string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	is := identity{uint64(st.Dev), st.Ino, st.Size, time.Unix(st.Ctim.Unix())}
	if is == c.of {
		return c.hash, nil
	}
	sum, err := catalog.Hash(path)
	if err != nil {
		return "", err
	}
	c.of, c.hash = is, sum
	return sum, nil
}

// last is the checksum as it was last read, "" before.
func (c *checksum) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hash
}
