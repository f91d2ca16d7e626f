package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

func TestLogsForPeople(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local))
	record := func(message string, attributes ...string) *controlv1.LogsResponse {
		r := &controlv1.LogRecord{Time: at, Handler: "h", Level: "ERROR", Message: message}
		for i := 0; i < len(attributes); i += 2 {
			r.Attributes = append(r.Attributes, &controlv1.LogAttribute{Key: attributes[i], Value: attributes[i+1]})
		}
		return &controlv1.LogsResponse{Item: &controlv1.LogsResponse_Record{Record: r}}
	}
	crash := func(panicked, lines []string) *controlv1.LogsResponse {
		return &controlv1.LogsResponse{Item: &controlv1.LogsResponse_Crash{Crash: &controlv1.Crash{Time: at, Handler: "h", Text: "it went down", Panic: panicked, Lines: lines}}}
	}
	for name, c := range map[string]struct {
		item  *controlv1.LogsResponse
		crash bool
		want  string
	}{
		"a line": {record("hello", "a", "1", "b", "x y"), false, "ERROR hello a=1 b=\"x y\""},
		"a stack": {record("it failed: panic: no\nmain.main()\n\tmain.go:3\n", "task", "t", "stack", "one\n  two\x1b\n"), false,
			"ERROR it failed: panic: no task=t\n  main.main()\n      main.go:3\n  stack:\n    one\n      two\uFFFD"},
		"a crash among lines": {crash([]string{"panic: no"}, nil), false, "CRASH it went down"},
		"a crash":             {crash([]string{"panic: no", "\tx"}, []string{"before", "panic: no", "\tx"}), true, "CRASH it went down\n  its last lines:\n    before\n    panic: no\n        x"},
		"a long crash":        {crash([]string{"panic: no"}, []string{"x"}), true, "CRASH it went down\n  its panic:\n    panic: no\n  its last lines:\n    x"},
	} {
		var out bytes.Buffer
		p := logPrinter{w: &out, crash: c.crash}
		if err := p.print(c.item); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff("03:04:05.000 "+c.want, strings.TrimSuffix(out.String(), "\n")); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// What no process wrote has no process number.
func TestLogOfNoProcess(t *testing.T) {
	if f := formOfLog(&controlv1.LogsResponse{Item: &controlv1.LogsResponse_Record{Record: &controlv1.LogRecord{}}}); f.PID != nil {
		t.Errorf("pid %d", *f.PID)
	}
}
