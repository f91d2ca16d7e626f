package catalog

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil"
)

func TestAwaitClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	testutil.NeedLeases(t, f)
	began := time.Now()
	if err := awaitClosed(path); err != nil || time.Since(began) < inherited {
		t.Errorf("a file that is open for writing: %v after %v", err, time.Since(began))
	}
	f.Close()
	if err := awaitClosed(path); err != nil {
		t.Error(err)
	}
}
