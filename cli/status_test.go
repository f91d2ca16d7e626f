package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s: %s", path, d)
	}
}

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func sampleStatus() *controlv1.StatusResponse {
	return &controlv1.StatusResponse{
		Ready: false, Version: "0.1.0", Pid: 4711,
		Reasons: []string{"agent adder is connecting: Could not connect agent adder: <no answer>; trying again", "handler evil is quarantined: it printed \x1b[31mred"},
		Conditions: []*controlv1.Condition{
			{Code: "agent_not_online", Object: "adder", Text: "agent adder is connecting: Could not connect agent adder: <no answer>; trying again"},
			{Code: "handler_not_ready", Object: "evil", Text: "handler evil is quarantined: it printed \x1b[31mred"},
		},
		Agents: []*controlv1.Agent{
			{Name: "adder", State: "connecting", Reason: "Could not connect agent adder: <no answer>; trying again", InstanceId: "AG-adder-1", Handler: "adder", Concurrency: 4},
			{Name: "echo", State: "online", InstanceId: "AG-echo-2", BillingMode: "free", Handler: "echo", Running: 3, Concurrency: 128, Streams: 2, StreamBytesInbound: 5000, StreamBytesOutbound: 3 << 20},
		},
		Handlers: []*controlv1.Handler{
			{
				Name: "echo", State: "ready", Path: "/usr/lib/blocksd/plugins/echo", Sha256: "ab12" + strings.Repeat("0", 60), Version: "1.4.2", Generation: 2, Restarts: 1, Isolation: "landlock", IsolationOpen: []string{"it \x1b[31mmay"},
				Processes: []*controlv1.Process{{Pid: 4712, State: "ready", Running: 3, StartedAt: timestamppb.New(now.Add(-90 * time.Minute)), RssBytes: 15 << 20}},
			},
			{Name: "evil", State: "quarantined", Reason: "it printed \x1b[31mred", Path: "/usr/lib/blocksd/plugins/evil", Restarts: 5},
		},
		Tasks: &controlv1.TaskCounts{Running: 3, Accepted: 20, Completed: 15, Failed: 1, Canceled: 1, Outbox: 2},
	}
}

func sampleTasks() []*controlv1.Task {
	pid := int32(4712)
	return []*controlv1.Task{
		{TaskId: "task_1", Agent: "echo", Handler: "echo", Pid: &pid, State: "running", Since: timestamppb.New(now.Add(-65 * time.Second)), Deadline: timestamppb.New(now.Add(5 * time.Second))},
		{TaskId: "task_2", Agent: "echo", Handler: "echo", State: "waiting", Since: timestamppb.New(now.Add(-72 * time.Hour))},
	}
}

// TestFormsForPeople: at each width every line fits.
func TestFormsForPeople(t *testing.T) {
	var out bytes.Buffer
	for _, width := range []int{50, 80, 200} {
		s := screen{width: width}
		fmt.Fprintf(&out, "==== %d columns\n", width)
		for _, step := range []func() error{
			func() error { return s.status(&out, formOfStatus(sampleStatus()), now) },
			func() error { return s.status(&out, formOfStatus(&controlv1.StatusResponse{Ready: true}), now) },
			func() error {
				return s.handlers(&out, formOfHandlers(sampleStatus().Handlers), now, handlerPathColumns)
			},
			func() error { return s.tasks(&out, formOfTasks(sampleTasks()), now) },
			func() error { return s.tasks(&out, formOfTasks(nil), now) },
		} {
			begin := out.Len()
			if err := step(); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()[begin:]) {
				if n := columnsOf(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("%d columns in place of %d: %s", n, width, line)
				}
			}
			out.WriteString("----\n")
		}
	}
	golden(t, "people.golden", out.Bytes())
}

// Colours are for terminals, and change nothing else.
func TestColours(t *testing.T) {
	var plain, coloured bytes.Buffer
	if err := errors.Join((screen{width: 80}).status(&plain, formOfStatus(sampleStatus()), now), (screen{80, style{true}}).status(&coloured, formOfStatus(sampleStatus()), now)); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(plain.Bytes(), []byte("\x1b")) {
		t.Error("there are escapes without colours")
	}
	if !bytes.Contains(coloured.Bytes(), []byte("\x1b[32monline\x1b[0m")) {
		t.Errorf("no colours: %q", coloured.String())
	}
	if got := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(coloured.String(), ""); got != plain.String() {
		t.Errorf("with colours the text is another: %s", cmp.Diff(plain.String(), got))
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 10, []string{"! "}}, {"a b", 0, []string{"! a b"}}, {"aaa bbb ccc", 9, []string{"! aaa bbb", "  ccc"}},
		{"aaaaaaaaaaaa b", 9, []string{"! aaaaaaa", "  aaaaa b"}}, {"aaaaaaa b", 9, []string{"! aaaaaaa", "  b"}},
	} {
		if d := cmp.Diff(c.want, wrap("! ", c.text, c.width)); d != "" {
			t.Errorf("%q in %d: %s", c.text, c.width, d)
		}
	}
}

// TestGridFits: whatever is in a grid, no line is wider than the screen as long as every column has its least.
func TestGridFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := screen{width: rapid.IntRange(20, 120).Draw(t, "width")}
		columns := []column{{title: "NAME"}, {title: "STATE"}, {title: "A LONG TITLE", rank: 2}, {title: "PATH", rank: rapid.IntRange(0, 3).Draw(t, "rank"), tail: true}}
		var rows [][]cell
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			var row []cell
			for range columns {
				row = append(row, cell{text: rapid.StringN(0, 60, -1).Draw(t, "text")})
			}
			rows = append(rows, row)
		}
		var out bytes.Buffer
		if err := s.grid(&out, columns, rows); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n != len(rows)+1 {
			t.Fatalf("%d lines for %d rows", n, len(rows))
		}
		for line := range strings.Lines(out.String()) {
			if n := columnsOf(strings.TrimSuffix(line, "\n")); n > s.width {
				t.Fatalf("%d columns in place of %d: %q", n, s.width, line)
			}
		}
	})
}

func TestFormsForMachines(t *testing.T) {
	var out bytes.Buffer
	a := &app{Invocation: Invocation{Stdout: &out}}
	for _, v := range []any{
		formOfStatus(sampleStatus()), formOfStatus(&controlv1.StatusResponse{}), formOfHandlers(nil), formOfTasks(sampleTasks()), formOfTasks(nil),
	} {
		if err := a.printJSON(v); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "machines.golden", out.Bytes())
}

func TestPrintable(t *testing.T) {
	if got, want := printable("a\nb\t\x1b[2J\u009bü\u2028😀"), "a b \uFFFD[2J\uFFFDü\uFFFD😀"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := printable("a\u202eb\u2066c\u200bd\u00ade\ufefff\xffg"), "a\uFFFDb\uFFFDc\uFFFDd\uFFFDe\uFFFDf\uFFFDg"; got != want {
		t.Errorf("what cannot be seen: %q, want %q", got, want)
	}
	if got, want := printableLines("a\n\x1b[2Jb"), "a\n\uFFFD[2Jb"; got != want {
		t.Errorf("lines: %q, want %q", got, want)
	}
}

// TestErrorsDoNotControlTheTerminal: an error repeats what somebody has written.
func TestErrorsDoNotControlTheTerminal(t *testing.T) {
	var out bytes.Buffer
	a := &app{Invocation: Invocation{Stderr: &out}}
	a.report([]string{"it failed: \x1b]0;owned\a\u202e"}, 1)
	if got := out.String(); strings.ContainsAny(got, "\x1b\a\u202e") || !strings.HasPrefix(got, "blocksd: it failed: ") {
		t.Errorf("%q", got)
	}
}

// TestHandlerReasons: a sentence that begins with the handler is not begun with it again.
func TestHandlerReasons(t *testing.T) {
	var out bytes.Buffer
	hs := []handlerForm{{Name: "a", Reason: "handler a could not be started"}, {Name: "b", Reason: "it is idle"}, {Name: "c", Reason: "handler ca is in the way"}}
	if err := (screen{width: 80}).handlerReasons(&out, hs); err != nil {
		t.Fatal(err)
	}
	if want := "! handler a could not be started\n! handler b: it is idle\n! handler c: handler ca is in the way\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}
