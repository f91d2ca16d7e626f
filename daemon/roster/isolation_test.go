package roster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// An entry overrides the limits of all in both directions; a handler without an entry has those of all.
func TestEntriesOverrideIsolation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	text := "isolation: {strict: true, mtls: true, memory_mib: 64}\nhandlers: [{name: a, strict: false, memory_mib: 32}, {name: b, mtls: false}]"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(config.Sources{File: path})
	if err != nil {
		t.Fatal(err)
	}
	var found []catalog.Found
	for _, name := range []string{"a", "b", "c"} {
		found = append(found, catalog.Found{Name: name, Path: "/p/" + name})
	}
	type limits struct {
		strict, mtls bool
		memory       int64
	}
	want := map[string]limits{"a": {false, true, 32 << 20}, "b": {true, false, 64 << 20}, "c": {true, true, 64 << 20}}
	for _, h := range MakePlan(c, Survey{Found: found}, Plan{}).Handlers {
		if got := (limits{h.Limits.Strict, h.MTLS, h.Limits.MemoryBytes}); got != want[h.Name] {
			t.Errorf("handler %s has %+v, want %+v", h.Name, got, want[h.Name])
		}
		delete(want, h.Name)
	}
	if len(want) > 0 {
		t.Errorf("not planned: %v", want)
	}
}
