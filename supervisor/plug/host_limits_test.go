package plug

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// endless is an input that does not end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// attack runs an attack of the hostile handler and returns what it answered.
func attack(t *testing.T, c *Conn, text string) (answer string, failure *dispatch.TaskFailure) {
	t.Helper()
	p := newPort()
	p.inputs = map[int]dispatch.Input{1: {Name: "endless", Size: 1, Body: io.NopCloser(endless{})}}
	task := request(fmt.Sprintf("t%d", time.Now().UnixNano()), text) // the SDK lets go of the one before a moment after its end
	task.Parts = append(task.Parts, wire.Part{PartID: "file", File: &wire.ArtifactRef{}})
	done := make(chan error, 1)
	go func() { done <- give(t.Context(), c, task, p, Hooks{}) }()
	var err error
	select {
	case err = <-done:
	case <-time.After(2 * patience):
		t.Fatalf("%s does not end", text)
	}
	errors.As(err, &failure)
	return strings.Join(p.texts(), "\n"), failure
}

func TestTransfersAreCounted(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "hostile", "")
	const refused = "the task has 32 transfers of this kind under way, the most that are taken: end one first"
	for _, text := range []string{"downloads 40", "artifacts 40 0"} {
		got, f := attack(t, c, text)
		if f != nil || got != fmt.Sprintf("%d in, map[%s:%d]", maxTransfers, refused, 40-maxTransfers) {
			t.Errorf("%s: %q, %+v", text, got, f)
		}
	}
	// The streams have ended with their tasks: the next task has all of them.
	if got, _ := attack(t, c, "downloads 32"); got != "32 in, map[]" {
		t.Errorf("afterwards: %q", got)
	}
}

// A task may have as many calls under way as the runtime allows, not only as many as other transfers.
func TestCallsAreCounted(t *testing.T) {
	a := newAssignment(nil, func() {})
	for n := range maxCalling {
		if _, err := a.begin(calling); err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
	}
	if _, err := a.begin(calling); err == nil {
		t.Errorf("more than %d calls are taken", maxCalling)
	}
}

// A task ends although its handler does not read what it has asked for, and what was sent to it is not kept.
func TestUnreadDownloadsEndWithTheTask(t *testing.T) {
	c := newFixture(t).conn(t, "hostile", "")
	for range 3 {
		if got, f := attack(t, c, "leak 32"); got != "done" || f != nil {
			t.Fatalf("%q, %+v", got, f)
		}
	}
	testutil.Eventually(t, patience, "calls that nobody reads are over", func() bool { return c.host.open.Load() <= 3*maxUnread }) // on three connections
	if got, f := attack(t, c, "downloads 1"); got != "1 in, map[]" || f != nil {
		t.Errorf("afterwards: %q, %+v", got, f)
	}
}

// Where others have filled the disk, that is to blame and not the handler, and what needs no disk goes on.
func TestFullDiskIsToBlame(t *testing.T) {
	r := newFixture(t)
	r.Spool = &Spool{free: func() int64 { return 100 << 10 }}
	c := r.conn(t, "badhandler", "")
	if p, f := do(t, c, "small", fmt.Sprint("artifact ", spoolAbove)); f != nil || len(p.artifacts) != 1 {
		t.Errorf("an artifact that needs no disk: %+v", f)
	}
	_, f := do(t, c, "large", fmt.Sprint("artifact ", 4*spoolAbove))
	if f == nil || f.Public != publicArtifact || !strings.Contains(f.Private, "because there is too little room in "+os.TempDir()+": 102400 bytes are free") || strings.Contains(f.Private, "contract") {
		t.Errorf("one that does: %+v", f)
	}
	if _, f := do(t, c, "large", fmt.Sprint("publish ", 4*spoolAbove)); f == nil || !strings.Contains(f.Public+f.Private, "too little room") {
		t.Errorf("one over the host service: %+v", f)
	}
}

func TestSpoolIsShared(t *testing.T) {
	r := newFixture(t)
	r.Spool = &Spool{free: func() int64 { return 20 << 20 }}
	c := r.conn(t, "hostile", "")
	got, f := attack(t, c, "artifacts 10 4")
	if f != nil || !strings.Contains(got, "because there is too little room in "+os.TempDir()) {
		t.Errorf("40 MiB where 20 are free: %q, %+v", got, f)
	}
	deadline := time.Now().Add(patience)
	for r.Spool.used.Load() != 0 { // what the calls held is freed behind their ends
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are still counted", r.Spool.used.Load())
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.Spool.free = nil
	if got, f := attack(t, c, "artifacts 10 4"); got != "10 in, map[]" {
		t.Errorf("40 MiB where there is room: %q, %+v", got, f)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	c := newFixture(t).conn(t, "hostile", "")
	if got, f := attack(t, c, "connections host 100"); got != fmt.Sprint(maxConnections) {
		t.Errorf("of its own: %q, %+v", got, f)
	}
	// Those of others do not take its place, and its own still work.
	const strangers = 20
	var closed atomic.Int32
	var readers sync.WaitGroup
	defer readers.Wait()
	for range strangers {
		conn, err := net.Dial("unix", c.host.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		readers.Go(func() {
			if _, err := io.Copy(io.Discard, conn); !errors.Is(err, net.ErrClosed) { // one that is let in is closed here
				closed.Add(1)
			}
		})
	}
	testutil.Eventually(t, patience, "the connections of strangers are closed but for some", func() bool { return closed.Load() >= strangers-maxStrangers })
	if got, f := attack(t, c, "downloads 1"); got != "1 in, map[]" {
		t.Errorf("its own, beside strangers: %q, %+v", got, f)
	}
}

func TestCardsAreCounted(t *testing.T) {
	r := newFixture(t)
	for alias, want := range map[string]string{
		"cards-100-1":     "it describes 101 agents, and may have 64",
		"cards-1-1100000": "one of its agent cards has more than 1048576 bytes",
	} {
		_, err := r.start(t, "hostile", alias)
		var f *Failure
		if !errors.As(err, &f) || f.Reason != unit.Describe || !strings.Contains(f.Text, want) {
			t.Errorf("%s: %v", alias, err)
		}
	}
}

func TestTextsOfHandlersAreCut(t *testing.T) {
	c := newFixture(t).conn(t, "hostile", "")
	for _, text := range []string{"error 3000000", "grpc-message 30000", "grpc-message 3000000"} {
		_, f := attack(t, c, text)
		if f == nil || len(f.Private) > maxPrivate || len(f.Public) > wire.MaxTextBytes || !utf8.ValidString(f.Private) {
			t.Errorf("%s: %.100q of %d bytes", text, f.Private, len(f.Private))
		}
	}
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{{"abc", 10, "abc"}, {"a\xffb", 10, "a\uFFFDb"}, {strings.Repeat("x", 100), 10, "xxxxxxx…"}, {strings.Repeat("\xff", 100), 7, "\uFFFD"}, {"", 3, ""}} {
		if got := foreign(tt.in, tt.limit); got != tt.want {
			t.Errorf("%q in %d bytes: %q", tt.in, tt.limit, got)
		}
	}
}
