package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 3 * time.Minute

func sumOf(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }

// Processes start while a file is copied, however long that takes.
func TestCopyHoldsUpNobody(t *testing.T) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- write(filepath.Join(t.TempDir(), "copy"), r, sumOf([]byte("the first half")))
	}()
	if _, err := io.WriteString(w, "the first half"); err != nil { // it is in the middle of it
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- exec.Command("/bin/true").Run() }()
	select {
	case err := <-started:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("no process can be started")
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A copy can be executed at once, though processes are forked all the time that it is made.
func TestCopyCanBeExecuted(t *testing.T) {
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var forks sync.WaitGroup
	defer forks.Wait()
	defer close(stop)
	for range 4 {
		forks.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("/bin/true").Run()
				}
			}
		})
	}
	dir := t.TempDir()
	for i := range 100 {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := write(path, bytes.NewReader(program), sumOf(program)); err != nil {
			t.Fatal(err)
		}
		if err := exec.Command(path).Run(); err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
	}
}
