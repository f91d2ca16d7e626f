package catalog

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil"
)

// Whoever has a program open for writing already could write over it after it was hashed: no lease would hold him up.
func TestOpenRefusesWhatIsBeingWritten(t *testing.T) {
	dir := t.TempDir()
	path, marker := filepath.Join(dir, "h"), filepath.Join(dir, "marker")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	testutil.NeedLeases(t, writer)

	o, err := Open(path)
	if !errors.Is(err, ErrBeingWritten) {
		t.Errorf("opened for execution while it is open for writing: %v", err)
	}
	if o != nil {
		if _, err := writer.WriteString("#!/bin/sh\n: > " + marker + "\n"); err != nil {
			t.Fatal(err)
		}
		writer.Close()
		cmd := exec.Command("/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{o.File()}
		_ = cmd.Run()
		if _, err := os.Stat(marker); err == nil {
			t.Error("what was written after it was hashed was executed")
		}
		o.Close()
		return
	}

	writer.Close()
	if o, err = Open(path); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755) }()
	select {
	case err := <-written:
		t.Errorf("written over while it was open for execution: %v", err)
	case <-time.After(100 * time.Millisecond): // it waits; one that did not would be over long before
	}
	o.Close()
	if err := <-written; err != nil {
		t.Error(err)
	}
}
