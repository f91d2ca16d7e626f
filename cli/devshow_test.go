package cli

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// TestDevShow: what people see of what happens. Before everything has settled only tasks and output are shown, and in the
// end no agent says that it leaves.
func TestDevShow(t *testing.T) {
	var out bytes.Buffer
	s := newDevShow(&out, style{}, false)
	pid := int32(7)
	event := func(e *controlv1.Event) {
		e.Time = timestamppb.New(now.Add(time.Minute))
		s.event(&controlv1.EventItem{Item: &controlv1.EventItem_Event{Event: e}})
	}
	line := func(level, text string) {
		t.Helper()
		if err := s.output(&controlv1.LogsResponse{Item: &controlv1.LogsResponse_Record{Record: &controlv1.LogRecord{Handler: "echo", Level: level, Message: text}}}); err != nil {
			t.Fatal(err)
		}
	}
	crash := func(text string, panicLines ...string) {
		t.Helper()
		if err := s.output(&controlv1.LogsResponse{Item: &controlv1.LogsResponse_Crash{Crash: &controlv1.Crash{Handler: "echo", Text: text, Panic: panicLines}}}); err != nil {
			t.Fatal(err)
		}
	}
	changes := func() {
		for _, state := range []string{"connecting", "connecting", "online"} {
			event(&controlv1.Event{Type: "agent_state", Agent: "echo", State: state, Reason: "why"})
		}
		event(&controlv1.Event{Type: "process_started", Handler: "echo", Pid: &pid, Duration: durationpb.New(30 * time.Millisecond)})
		event(&controlv1.Event{Type: "notice", State: "raised", Reason: "file x is not loaded"})
	}
	changes()
	line("INFO", "hello \x1b[31m")
	s.settled = now
	changes()
	event(&controlv1.Event{Type: "task_accepted", Agent: "echo", TaskId: "task_1"})
	event(&controlv1.Event{Type: "task_ended", Agent: "echo", TaskId: "task_1", State: "completed", Reason: "not shown", Duration: durationpb.New(1234 * time.Microsecond)})
	event(&controlv1.Event{Type: "task_ended", Agent: "echo", TaskId: "task_2", State: "failed", Reason: "No.", Duration: durationpb.New(65 * time.Second)})
	event(&controlv1.Event{Type: "task_refused", Agent: "echo", TaskId: "task_3", Reason: "full"})
	event(&controlv1.Event{Type: "rollout", Handler: "echo", State: "done", Reason: "the new generation takes the tasks"})
	event(&controlv1.Event{Type: "notice", Handler: "echo", Reason: "handler is quarantined because it failed too often"})
	event(&controlv1.Event{Type: "notice", State: "ready", Reason: "not shown"})
	s.event(&controlv1.EventItem{Item: &controlv1.EventItem_Missed{Missed: 2}})
	line("ERROR", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11")
	line("WARN", "two\nlines")
	crash("handler echo went down because it ended with exit code 1", "Traceback (most recent call last):", "  File x", "ImportError: no y")
	crash("handler echo went down because it ended with exit code 1", "Traceback (most recent call last):", "  File x", "ImportError: no y")
	crash("handler echo went down because it ended with exit code 2", "panic: boom", "goroutine 1")
	crash("handler echo went down because a signal ended it")
	// Why a task failed is said once, whichever of the two lines comes first; what only the handler's line has stays.
	failed := func(task, why string) {
		t.Helper()
		r := &controlv1.LogRecord{Handler: "echo", Level: "WARN", Message: "a task failed: " + why, Attributes: []*controlv1.LogAttribute{{Key: "task", Value: task}}}
		if err := s.output(&controlv1.LogsResponse{Item: &controlv1.LogsResponse_Record{Record: r}}); err != nil {
			t.Fatal(err)
		}
	}
	ended := func(task, why string) {
		event(&controlv1.Event{Type: "task_ended", Agent: "echo", TaskId: task, State: "failed", Reason: why, Duration: durationpb.New(time.Second)})
	}
	failed("task_4", "no such city")
	ended("task_4", "no such city")
	ended("task_5", "no such street")
	failed("task_5", "no such street")
	failed("task_6", "Something went wrong.: the secret")
	ended("task_6", "Something went wrong.")
	// What a handler wrote before it went is not said again in the block about its end.
	line("ERROR", "the package is not installed: install it with this long command")
	crash("handler echo is not started because the package is not installed: install it with this long command")
	event(&controlv1.Event{Type: "drain", State: "stopping"})
	changes()
	s.summary(countsForm{Accepted: 3, Completed: 1, Failed: 2}, 65*time.Second)
	golden(t, "devshow.golden", out.Bytes())
}
