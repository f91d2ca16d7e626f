package wire

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

const exampleTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestParseTraceparent(t *testing.T) {
	got, ok := ParseTraceparent(exampleTrace)
	if !ok || got.String() != exampleTrace {
		t.Errorf("%v, %v", got, ok)
	}
	if later, ok := ParseTraceparent("cc" + exampleTrace[2:] + "-more"); !ok || later != got {
		t.Errorf("a later version: %v, %v", later, ok)
	}
	for flags, unrecorded := range map[string]bool{"00": true, "02": true, "03": false, "ff": false} {
		want := Trace{got.ID, got.Span, unrecorded}
		if other, ok := ParseTraceparent(strings.TrimSuffix(exampleTrace, "01") + flags); !ok || other != want {
			t.Errorf("flags %s: %v, %v", flags, other, ok)
		} else if again, ok := ParseTraceparent(other.String()); !ok || again != other {
			t.Errorf("flags %s become %v", flags, again)
		}
	}
	for _, wrong := range []string{
		"", "00", exampleTrace + "-more", "ff" + exampleTrace[2:], strings.ToUpper(exampleTrace), exampleTrace[:54], exampleTrace + "0",
		"cc" + exampleTrace[2:] + "0", strings.Replace(exampleTrace, "b7", "xx", 1), strings.Replace(exampleTrace, "-", "_", 1),
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
	} {
		if got, ok := ParseTraceparent(wrong); ok || !got.IsZero() {
			t.Errorf("%q: %v", wrong, got)
		}
	}
}

func FuzzParseTraceparent(f *testing.F) {
	f.Add(exampleTrace)
	f.Add("cc" + exampleTrace[2:] + "-more")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseTraceparent(s)
		if !ok {
			return
		}
		if again, ok := ParseTraceparent(got.String()); !ok || again != got {
			t.Errorf("%q: %v becomes %v", s, got, again)
		}
	})
}

// TestCallerTrace: what a sender puts into its parts is found again, and only where it does no harm.
func TestCallerTrace(t *testing.T) {
	trace, _ := ParseTraceparent(exampleTrace)
	text := "hi"
	for _, c := range []struct {
		what  string
		parts []Part
		want  Trace
	}{
		{"a text", []Part{{PartID: "file", File: &ArtifactRef{Kind: RefFile}}, {PartID: "request", Text: &text}, {PartID: "other", Text: &text}}, trace},
		{"no text", []Part{{PartID: "file", File: &ArtifactRef{Kind: RefFile}}}, Trace{}},
		{"no part", nil, Trace{}},
	} {
		SetCallerTrace(c.parts, trace)
		b, err := json.Marshal(c.parts)
		if err != nil {
			t.Fatal(err)
		}
		task := Task{}
		if err := json.Unmarshal(b, &task.Parts); err != nil {
			t.Fatal(err)
		}
		if got := task.CallerTrace(); got != c.want {
			t.Errorf("%s: %v, want %v, from %s", c.what, got, c.want, b)
		}
		if n := strings.Count(string(b), exampleTrace); n > 1 {
			t.Errorf("%s: it is there %d times: %s", c.what, n, b)
		}
	}
	var foreign Task
	if err := json.Unmarshal([]byte(`["traceparent", {"traceparent": 5}, {"text": "\"traceparent\""}, {"traceparent": "no"}]`), &foreign.Parts); err != nil {
		t.Fatal(err)
	}
	if got := foreign.CallerTrace(); !got.IsZero() {
		t.Errorf("%v", got)
	}
	SetCallerTrace([]Part{{Text: &text}}, Trace{})
}

func TestTraceTask(t *testing.T) {
	caller, _ := ParseTraceparent(exampleTrace)
	of := TraceTask("instance", "task", caller, 1)
	if of != TraceTask("instance", "task", caller, 1) || of.Task.ID != caller.ID || of.Parent != caller || of.Task.Span == of.Handler.Span {
		t.Errorf("%v", of)
	}
	if other := TraceTask("other", "task", caller, 1); other.Task.Span == of.Task.Span || other.Handler.Span == of.Handler.Span {
		t.Errorf("two instances share a span: %v", other)
	}
	alone := TraceTask("instance", "task", Trace{ID: caller.ID}, 1)
	if alone.Task.IsZero() || !alone.Parent.IsZero() || alone.Task.ID == caller.ID || alone.Task.ID != TraceTask("other", "task", Trace{}, 1).Task.ID {
		t.Errorf("%v", alone)
	}
}

// TestSampled: a share of the traces that begin here is recorded, always the same ones, and those of a smaller share are among
// those of a larger one. A caller has decided.
func TestSampled(t *testing.T) {
	const tasks = 10_000
	recorded := func(task string, caller Trace, ratio float64) bool {
		of := TraceTask("instance", task, caller, ratio)
		if of.Task.Unrecorded != of.Handler.Unrecorded || of != TraceTask("instance", task, caller, ratio) {
			t.Fatalf("%+v", of)
		}
		return !of.Task.Unrecorded
	}
	counts := map[float64]int{}
	for i := range tasks {
		task := "task_" + strconv.Itoa(i)
		before := false
		for _, ratio := range []float64{0, 0.1, 0.5, 1} {
			now := recorded(task, Trace{}, ratio)
			if before && !now {
				t.Fatalf("%s is recorded with a smaller ratio than %v, and not with it", task, ratio)
			}
			if before = now; now {
				counts[ratio]++
			}
		}
	}
	if counts[0] != 0 || counts[1] != tasks || counts[0.1] < 850 || counts[0.1] > 1150 || counts[0.5] < 4750 || counts[0.5] > 5250 {
		t.Errorf("of %d tasks were recorded %v", tasks, counts)
	}
	caller, _ := ParseTraceparent(exampleTrace)
	if !recorded("task", caller, 0) {
		t.Error("the caller records, and this task is left out")
	}
	caller.Unrecorded = true
	if recorded("task", caller, 1) {
		t.Error("the caller does not record, and this task is")
	}
}
