package plug

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Tasks that end by themselves, well or badly, on one process that survives all of them.
func TestOutcomes(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	pid := c.PID()
	tests := []struct {
		text      string
		kind      dispatch.FailureKind // 0 is success
		public    string
		private   string // contained
		artifacts []string
	}{
		{"none", 0, "", "", []string{"good"}},
		{"error no such city", dispatch.HandlerError, "no such city", "", nil},
		{"private-error the secret", dispatch.HandlerError, "Something went wrong.", "the secret", nil},
		{"error \xff", dispatch.HandlerError, "\uFFFD", "", nil},
		{"panic", dispatch.HandlerError, "The handler failed with an internal error.", "I was told to", nil},
		{"no-result", dispatch.HandlerSilent, publicSilent, "without a result", nil},
		{"stderr-bad-json", 0, "", "", []string{"done"}},
		{"long-line", 0, "", "", []string{"done"}},
		{"flood", 0, "", "", []string{"done"}},
		{"status-flood 1000", 0, "", "", []string{"done"}},
		{"publish 10", 0, "", "", []string{string(make([]byte, 10))}},
	}
	for i, tt := range tests {
		p, f := do(t, c, "t"+strconv.Itoa(i), tt.text)
		switch {
		case tt.kind == 0 && f != nil:
			t.Errorf("%s: %+v", tt.text, f)
		case tt.kind != 0 && (f == nil || f.Kind != tt.kind || f.Public != tt.public || !strings.Contains(f.Private, tt.private)):
			t.Errorf("%s: %+v", tt.text, f)
		}
		if d := cmp.Diff(tt.artifacts, p.texts()); d != "" {
			t.Errorf("%s: artifacts %s", tt.text, d)
		}
		if p.pid != pid {
			t.Errorf("%s: dispatched to %d", tt.text, p.pid)
		}
	}
	select {
	case <-c.Done():
		t.Error("the process did not survive")
	default:
	}
	if p, _ := do(t, c, "last", "status-flood 3"); len(p.statuses) != 3 || p.statuses[2] != "status 2" {
		t.Errorf("statuses %v", p.statuses)
	}
}

// The metadata of a call is kept as long as that is open, so there is not much of it. A call with more fails alone.
func TestHeadersAreLimited(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	for size, fails := range map[int]bool{100: false, 1000: true, 10000: true} {
		if _, f := do(t, c, fmt.Sprint("t", size), fmt.Sprint("headers ", size)); (f != nil) != fails {
			t.Errorf("metadata of %d KiB: %+v", size, f)
		}
	}
	if _, f := do(t, c, "after", "none"); f != nil {
		t.Errorf("the next task: %+v", f)
	}
}

func TestArtifactSizes(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	for _, size := range []int{0, 1, 256 << 10, 256<<10 + 1, 512 << 10, 20 << 20} {
		for _, verb := range []string{"artifact", "publish"} {
			p, f := do(t, c, "t", fmt.Sprintf("%s %d", verb, size))
			if f != nil || len(p.artifacts) != 1 || len(p.artifacts[0].Data) != size || p.artifacts[0].FileName != "zeros.bin" || p.artifacts[0].OutputID != "reply" {
				t.Errorf("%s of %d: %v, %d artifacts", verb, size, f, len(p.artifacts))
			}
		}
	}
}

func TestMinimalHandler(t *testing.T) {
	r := newFixture(t)
	r.Timeouts.LetGo = 50 * time.Millisecond
	c := r.conn(t, "badhandler", "minimal")
	tests := []struct {
		text    string
		kind    dispatch.FailureKind
		private string
	}{
		{"two halves", 0, ""},
		{"empty-message", 0, ""},
		{"after-result", 0, ""},
		{"status-error", dispatch.HandlerSilent, "it broke"},
		{"empty-error", dispatch.HandlerError, ""},
		{"unknown-info", dispatch.HandlerError, "lacks its description"},
		{"unfinished", dispatch.HandlerError, "last chunk of an artifact is missing"},
		{"mixed", dispatch.HandlerError, "a new artifact begins"},
	}
	for _, tt := range tests {
		p, f := do(t, c, "t", tt.text)
		switch {
		case tt.kind == 0 && f != nil, tt.kind != 0 && (f == nil || f.Kind != tt.kind || !strings.Contains(f.Private, tt.private)):
			t.Errorf("%s: %+v", tt.text, f)
		}
		if tt.text == "two halves" && cmp.Diff([]string{"two halves"}, p.texts()) != "" {
			t.Errorf("artifacts %q", p.texts())
		}
	}
	if err := c.CancelTask(t.Context(), "t", dispatch.CancelUser, time.Second); !errors.Is(err, ErrNoTask) {
		t.Errorf("cancel of nothing: %v", err)
	}
}

func TestFailedPublishFailsTheTask(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	p := newPort()
	p.fail = errors.New("the disk is full")
	err := give(t.Context(), c, request("t", "none"), p, Hooks{})
	var f *dispatch.TaskFailure
	if !errors.As(err, &f) || f.Public != publicArtifact || !strings.Contains(f.Private, "the disk is full") {
		t.Errorf("error %v", err)
	}
}

func TestCancel(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	p := newPort()
	result := make(chan error, 1)
	go func() {
		result <- give(context.Background(), c, request("t", "hang"), p, Hooks{Released: func(taint bool) {
			if taint {
				t.Error("tainted")
			}
		}})
	}()
	wait(t, p.changed, "the task to run")
	if err := c.CancelTask(t.Context(), "t", dispatch.CancelUser, time.Second); err != nil {
		t.Fatal(err)
	}
	var f *dispatch.TaskFailure
	if err := <-result; !errors.As(err, &f) || f.Kind != dispatch.HandlerError || f.Public != "the task was asked to end (user)" {
		t.Errorf("result %v", err)
	}
	if err := c.CancelTask(t.Context(), "t", dispatch.CancelUser, time.Second); !errors.Is(err, ErrNoTask) {
		t.Errorf("cancel after the end: %v", err)
	}
}

// A cancellation that comes right behind the task is not lost.
func TestCancelAtOnce(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	for i := range 50 {
		id := fmt.Sprint("t", i)
		result := make(chan error, 1)
		go func() { result <- give(context.Background(), c, request(id, "hang"), newPort(), Hooks{}) }()
		for c.CancelTask(t.Context(), id, dispatch.CancelDeadline, time.Second) != nil { // until it is there
			time.Sleep(10 * time.Microsecond)
		}
		select {
		case <-result:
		case <-time.After(patience):
			t.Fatal("the cancellation was lost")
		}
	}
}

// When ctx ends Do returns at once; the process is tainted only if it goes on.
func TestGivenUp(t *testing.T) {
	tests := []struct {
		text, alias string
		letGo       time.Duration
		taint       bool
	}{
		{"hang", "", time.Hour, false},
		{"slow-cancel 50ms", "", time.Hour, false},
		{"ignore-cancel", "", 50 * time.Millisecond, true},
		{"ignore-cancel", "", time.Hour, true}, // after the test: Do waits for none of it
		{"hang", "minimal", time.Hour, true},   // it knows no cancellation, so nothing would be gained by waiting
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.text, tt.alias, tt.letGo), func(t *testing.T) {
			r := newFixture(t)
			r.Timeouts.LetGo = tt.letGo
			c := r.conn(t, "badhandler", tt.alias)
			ctx, cancel := context.WithCancel(context.Background())
			p, released := newPort(), make(chan bool, 1)
			var err error
			returned := make(chan struct{})
			go func() {
				defer close(returned)
				err = give(ctx, c, request("t", tt.text), p, Hooks{Released: func(taint bool) { released <- taint }})
			}()
			if tt.alias == "" {
				wait(t, p.changed, "the task to run")
			} else {
				for c.host.lookup("t") == nil {
					time.Sleep(time.Millisecond)
				}
			}
			cancel()
			wait(t, returned, "Do to return")
			var f *dispatch.TaskFailure
			if !errors.As(err, &f) || f.Kind != dispatch.CallEnded {
				t.Errorf("result %v", err)
			}
			if tt.text == "ignore-cancel" && tt.letGo == time.Hour {
				return
			}
			select {
			case taint := <-released:
				if taint != tt.taint {
					t.Errorf("taint %v", taint)
				}
			case <-time.After(patience):
				t.Fatal("never released")
			}
			if _, f := do(t, c, "next", "none"); f != nil {
				t.Errorf("the next task: %+v", f)
			}
		})
	}
}

func TestGivenUpWhilePublishing(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	for _, text := range []string{"none", "publish 1"} {
		ctx, cancel := context.WithCancel(context.Background())
		p := newPort()
		p.block = true
		result := make(chan error, 1)
		go func() { result <- give(ctx, c, request(text, text), p, Hooks{}) }() // a task's id is never used again
		<-p.blocked
		cancel()
		select {
		case err := <-result:
			var f *dispatch.TaskFailure
			if !errors.As(err, &f) {
				t.Errorf("%s: %v", text, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: Do waits for the port", text)
		}
	}
}

// A frozen process is noticed by the health checks, and can still be killed.
func TestFrozen(t *testing.T) {
	c := newFixture(t).conn(t, "badhandler", "")
	c.timeouts.Health, c.timeouts.HealthInterval = 50*time.Millisecond, 20*time.Millisecond // too short for a start on a busy machine
	testutil.Freeze(t, c.PID())
	err := c.Watch(t.Context())
	var f *Failure
	if !errors.As(err, &f) || f.Reason != unit.Health || !strings.Contains(f.Text, "missed 3 health checks in a row") {
		t.Errorf("watch ended with %v", err)
	}
}

// Grandchildren that hold the pipes do not keep the process's end from being seen, nor survive it; one that left the
// group survives, but hinders nobody.
func TestGrandchildren(t *testing.T) {
	for _, argument := range []string{"", " setsid"} {
		r := newFixture(t)
		r.Timeouts.Stop = time.Hour
		c := r.conn(t, "badhandler", "")
		p, f := do(t, c, "t", "grandchild"+argument)
		if f != nil || len(p.artifacts) != 1 {
			t.Fatalf("failure %+v", f)
		}
		pid, _ := strconv.Atoi(p.texts()[0])
		stop(t, c)
		if argument == "" {
			waitGone(t, pid)
		} else {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	testutil.Eventually(t, patience, fmt.Sprintf("process %d ends", pid), func() bool { return !testutil.Alive(pid) })
}

func TestOutputReachesTheLog(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	if _, f := do(t, c, "t9", "log careful"); f != nil {
		t.Fatal(f)
	}
	want := []string{
		`level=WARN msg=careful handler=badhandler pid=` + strconv.Itoa(c.PID()) + ` task=t9`,
		`level=INFO msg="printed careful" handler=badhandler pid=` + strconv.Itoa(c.PID()),
	}
	testutil.Eventually(t, patience, fmt.Sprintf("the log has %q", want), func() bool {
		got := r.logs.String()
		return strings.Contains(got, want[0]) && strings.Contains(got, want[1])
	})
}
