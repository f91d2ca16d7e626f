package testutil_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBuffer(t *testing.T) {
	var b testutil.Buffer
	var writers sync.WaitGroup
	for range 10 {
		writers.Go(func() { fmt.Fprint(&b, "line\n") })
	}
	writers.Wait()
	if got := b.String(); got != strings.Repeat("line\n", 10) {
		t.Errorf("got %q", got)
	}
	if b.Reset(); b.String() != "" {
		t.Errorf("got %q after Reset", b.String())
	}
}

// failing records that a test was failed.
type failing struct {
	testing.TB
	message string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestEventually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		testutil.Eventually(t, time.Minute, "a second passes", func() bool { return time.Since(begin) >= time.Second })
		if took := time.Since(begin); took > time.Second+20*time.Millisecond {
			t.Errorf("noticed after %s", took)
		}
		f := &failing{TB: t}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			testutil.Eventually(f, time.Minute, "this holds", func() bool { return false })
		}()
		<-ended
		if f.message != "not within 1m0s: this holds" {
			t.Errorf("the test failed with %q", f.message)
		}
	})
}

func TestFreeze(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "while :; do echo; done")
	cmd.Stdout = w
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	testutil.Freeze(t, cmd.Process.Pid)
	for err == nil { // what it has written before
		_ = r.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = r.Read(make([]byte, 1<<16))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func TestAlive(t *testing.T) {
	if !testutil.Alive(os.Getpid()) {
		t.Error("this process is not alive")
	}
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	testutil.Eventually(t, 3*time.Minute, "the process is a zombie", func() bool { return !testutil.Alive(pid) })
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if testutil.Alive(pid) {
		t.Error("a process that was waited for is alive")
	}
}
