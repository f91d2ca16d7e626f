package cli

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// sampleTop is a busy daemon that has been watched for a while.
func sampleTop(width, height int) *topState {
	s := &topState{width: width, height: height}
	status := formOfStatus(sampleStatus())
	for i := range 40 {
		status.Tasks.Completed += int64(i % 9 * 3)
		status.Agents = slices.Clone(status.Agents)
		status.Agents[1].StreamBytesOut += 12 << 10
		n := topSnapshot{at: now.Add(time.Duration(i) * time.Second), status: status, tasks: formOfTasks(sampleTasks())}
		for j := range 12 {
			n.tasks = append(n.tasks, taskForm{TaskID: fmt.Sprintf("task_%026d", j), Agent: "echo", State: "running", Since: now.Add(-time.Duration(j) * time.Minute)})
		}
		s.news(n)
	}
	return s
}

// keys presses keys; a text is typed letter by letter.
func (s *topState) keys(names ...string) (last topDo) {
	for _, name := range names {
		if s.typing && len(name) > 1 && name != "enter" && name != "esc" && name != "backspace" {
			for _, letter := range name {
				s.key(string(letter), string(letter))
			}
			continue
		}
		text := ""
		if utf8.RuneCountInString(name) == 1 {
			text = name
		}
		last = s.key(name, text)
	}
	return last
}

// fitting checks that a picture is as high as the terminal and nowhere wider.
func fitting(t *testing.T, s *topState, picture string) {
	t.Helper()
	lines := strings.Split(picture, "\n")
	if len(lines) > s.height {
		t.Errorf("%d lines on a terminal of %d", len(lines), s.height)
	}
	for _, l := range lines {
		if n := columnsOf(l); n > s.width {
			t.Errorf("%d columns in place of %d: %s", n, s.width, l)
		}
	}
}

func TestTopPictures(t *testing.T) {
	var out bytes.Buffer
	for _, size := range [][2]int{{80, 24}, {50, 16}, {200, 50}} {
		for _, c := range []struct {
			name string
			keys []string
		}{
			{"the beginning", nil}, {"tasks, the oldest first", []string{"3", "s", "s", "s", "r"}}, {"handlers, filtered", []string{"2", "/", "evil", "enter"}},
			{"a task", []string{"3", "end", "enter"}}, {"help", []string{"?"}},
		} {
			s := sampleTop(size[0], size[1])
			s.keys(c.keys...)
			picture := s.view()
			fitting(t, s, picture)
			fmt.Fprintf(&out, "==== %d×%d: %s\n%s\n", size[0], size[1], c.name, picture)
		}
	}
	golden(t, "top.golden", bytes.ReplaceAll(out.Bytes(), []byte(now.Add(-12*time.Minute).Local().Format("15:04")), []byte("HH:MM")))
}

func TestTopKeys(t *testing.T) {
	s := sampleTop(80, 24)
	names := func() (all []string) {
		for _, r := range s.rows(s.focus) {
			all = append(all, r.name)
		}
		return all
	}
	wants := func(what string, want ...string) {
		t.Helper()
		if d := cmp.Diff(want, names()); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	wants("agents by name", "adder", "echo")
	s.keys("r")
	wants("the other way round", "echo", "adder")
	s.keys("r", "s", "s")
	wants("by running", "adder", "echo")
	s.keys("S", "S", "/", "ECHO", "backspace", "backspace")
	if s.filter != "EC" || !s.typing {
		t.Errorf("the filter is %q", s.filter)
	}
	wants("filtered", "adder", "echo") // conn-ec-ting
	s.keys("HO", "enter")
	wants("filtered", "echo")
	s.keys("esc")
	wants("no filter", "adder", "echo")
	s.keys("down")
	if r, _ := s.selectedRow(); r.name != "echo" {
		t.Errorf("the row is %s", r.name)
	}
	s.keys("r") // the choice stays with its row
	if r, _ := s.selectedRow(); r.name != "echo" {
		t.Errorf("after sorting the row is %s", r.name)
	}
	s.keys("tab", "down")
	if do := s.keys("enter"); do != doLook || s.inside == nil || s.inside.name != "evil" {
		t.Errorf("looking into a handler: %v, %+v", do, s.inside)
	}
	s.looked("echo", []string{"not asked for"}, "")
	s.looked("evil", []string{"one", "two \x1b[31m", "three"}, "")
	if v := s.view(); !strings.Contains(v, "two \uFFFD[31m\nthree") || strings.Contains(v, "not asked") {
		t.Errorf("the last lines are missing in\n%s", v)
	}
	s.keys("up", "up", "up", "up")
	if v := s.view(); strings.Contains(v, "two") || !strings.Contains(v, "one") {
		t.Errorf("scrolled back:\n%s", v)
	}
	s.keys("esc")
	if s.inside != nil || s.keys("q") != doQuit || s.keys("ctrl+c") != doQuit {
		t.Error("it does not end")
	}
}

// TestStreamRates: an agent that is new, or was made anew, has what it has sent since.
func TestStreamRates(t *testing.T) {
	agents := func(a, b int64) []agentForm {
		return []agentForm{{Name: "a", StreamBytesIn: a}, {Name: "b", StreamBytesOut: b}}
	}
	for _, c := range []struct {
		before, now []agentForm
		want        map[string]float64
	}{
		{agents(100, 50), agents(300, 50), map[string]float64{"a": 100, "b": 0}},
		{agents(100, 50)[:1], agents(20, 50), map[string]float64{"a": 10, "b": 25}},
	} {
		if d := cmp.Diff(c.want, streamRates(c.before, c.now, 2)); d != "" {
			t.Error(d)
		}
	}
}

func TestTopNews(t *testing.T) {
	s := &topState{width: 80, height: 24}
	if v := s.view(); !strings.HasPrefix(v, "asking the daemon") {
		t.Errorf("before the first answer: %s", v)
	}
	at := func(second int, pid int32, completed int64) topSnapshot {
		n := topSnapshot{at: now.Add(time.Duration(second) * time.Second)}
		n.status.PID, n.status.Tasks.Completed = pid, completed
		return n
	}
	for _, n := range []topSnapshot{at(0, 1, 100), at(1, 1, 110), at(3, 1, 150), at(4, 2, 0), at(5, 2, 3), {err: "it went away"}} {
		s.news(n)
	}
	if d := cmp.Diff([]float64{10, 20, 3}, s.rates); d != "" {
		t.Error(d) // a daemon that was restarted counts anew
	}
	if v := s.view(); !strings.Contains(v, "not answering since ") || !strings.Contains(v, "it went away") {
		t.Errorf("without an answer: %s", v)
	}
	s.news(at(6, 2, 3))
	if v := s.view(); strings.Contains(v, "it went away") {
		t.Errorf("it answers again: %s", v)
	}
	for range 2 * topRates {
		s.news(at(len(s.rates)+10, 2, 3))
	}
	if len(s.rates) > topRates {
		t.Errorf("%d rates are kept", len(s.rates))
	}
}

func TestSpark(t *testing.T) {
	if got := spark([]float64{9, 0, 1, 4, 8, 16}, 5); got != " ▁▃▅█" {
		t.Errorf("got %q", got)
	}
	if spark(nil, 5) != "" || spark([]float64{1}, 0) != "" || spark([]float64{0}, 3) != " " {
		t.Error("nothing is drawn wrong")
	}
}

// TestTopFits: whatever is pressed, on whatever terminal, the picture fits.
func TestTopFits(t *testing.T) {
	all := []string{"tab", "shift+tab", "1", "2", "3", "up", "down", "pgup", "pgdown", "home", "end", "s", "S", "r", "/", "x", "é", "esc", "enter", "backspace", "?"}
	rapid.Check(t, func(rt *rapid.T) {
		s := sampleTop(rapid.IntRange(1, 130).Draw(rt, "width"), rapid.IntRange(1, 40).Draw(rt, "height"))
		for range rapid.IntRange(0, 15).Draw(rt, "keys") {
			s.keys(rapid.SampledFrom(all).Draw(rt, "key"))
			if rapid.Bool().Draw(rt, "lines") {
				s.looked("echo", []string{strings.Repeat("long ", 50), "b"}, "")
			}
			if s.width >= topSmallWidth && s.height >= topSmallHeight {
				lines := strings.Split(s.view(), "\n")
				if len(lines) != s.height {
					rt.Fatalf("%d lines on a terminal of %d", len(lines), s.height)
				}
				for _, l := range lines {
					if n := columnsOf(l); n > s.width {
						rt.Fatalf("%d columns in place of %d: %q", n, s.width, l)
					}
				}
			}
		}
	})
}
