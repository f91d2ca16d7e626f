package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/runtime/agent"
)

// TestCopyIsTriedAgain: a program that could not be copied when the daemon started, as on a full disk, is served once it can
// be, although no file of a plugins directory changes.
func TestCopyIsTriedAgain(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Settle = time.Hour // nothing else has the files looked at
	program, err := os.ReadFile(filepath.Join(c.Settings.Plugins.Dirs[0], "echo"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(program)
	inTheWay := filepath.Join(c.Settings.StateDir, storeDir, hex.EncodeToString(sum[:]))
	if err := os.MkdirAll(filepath.Join(inTheWay, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := start(t, c)
	d.until(t, "the status says that there is no copy", func() bool {
		for _, why := range d.Status().GetConditions() {
			if why.GetCode() == string(roster.NotCopied) {
				return true
			}
		}
		return false
	})
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	d.until(t, "the agent is online", func() bool {
		all := d.Status().GetAgents()
		return len(all) == 1 && all[0].GetState() == agent.StateOnline
	})
}
