package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hinshun/vt10x"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil/terminal"
)

// TestTransfersOnTerminal: on a real terminal of any width, call shows how far a large upload and a large download have come, on one
// line that moves nothing and is gone afterwards.
func TestTransfersOnTerminal(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	const size = 4 << 20
	sent, got := "a-recording-with-a-name-that-is-longer-than-a-narrow-terminal.bin", "the-recording-as-the-agent-has-sent-it-back-under-a-long-name.bin"
	for _, columns := range []int{80, 50, 200} {
		t.Run(strconv.Itoa(columns), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, sent), make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			script := steps(t, map[string]any{"digest": "file"}, map[string]any{"return": map[string]any{"size": size, "fileName": got}})
			cmd := exec.Command(n.Blocksd(), "call", "scripted", "--text", script, "--file", "file="+sent, "--save", "out")
			cmd.Dir, cmd.Env = dir, append(append(system.CleanEnv(), n.Env...), "TERM=xterm-256color", "LANG=C.UTF-8")
			p, err := terminal.Start(cmd, columns, 24)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Stop()
			select {
			case <-p.Ended():
			case <-time.After(system.CallDeadline):
				t.Fatalf("it did not end: %q", p.Written())
			}
			if p.ExitCode() != 0 {
				t.Fatalf("exit code %d: %q", p.ExitCode(), p.Written())
			}
			checkTransfer(t, columns, p.Written(), "uploading", sent)
			checkTransfer(t, columns, p.Written(), "downloading", got)
			if _, after, _ := strings.Cut(p.Written(), "task task_"); after == "" || strings.Contains(after, "uploading") {
				t.Errorf("the upload is shown when the task is under way: %q", p.Written())
			}
			end := p.Screen.String()
			if strings.Contains(end, "loading") || !strings.Contains(end, "saved out/"+got[:20]) {
				t.Errorf("at the end the screen is\n%s", end)
			}
			if info, err := os.Stat(filepath.Join(dir, "out", got)); err != nil || info.Size() != size {
				t.Errorf("what was saved: %v, %v", info, err)
			}
		})
	}
	n.Stop(t)
}

// shownPart is how far a transfer has come.
var shownPart = regexp.MustCompile(`^\w+ \[(#*)(\.*)\] +(\d+) % of 4\.0`)

// checkTransfer looks at each picture of a transfer: what was written, to the end of one, on a screen of that width.
func checkTransfer(t *testing.T, columns int, written, what, name string) {
	t.Helper()
	screen := vt10x.New(vt10x.WithSize(columns, 24))
	var percents []int
	for rest := written; rest != ""; {
		// A picture ends where the line is erased, or with it.
		end := strings.IndexAny(rest[1:], "\r\n") + 1
		if end == 0 {
			end = len(rest)
		}
		fmt.Fprint(screen, rest[:end])
		rest = rest[end:]
		var shown []string
		for line := range strings.Lines(screen.String()) {
			if strings.HasPrefix(line, what) {
				shown = append(shown, strings.TrimRight(line, " \n"))
			}
		}
		if len(shown) > 1 {
			t.Fatalf("%s is shown %d times:\n%s", what, len(shown), screen.String())
		}
		if len(shown) == 0 {
			continue
		}
		found := shownPart.FindStringSubmatch(shown[0])
		if found == nil {
			t.Fatalf("%d columns: %q", columns, shown[0])
		}
		percent, err := strconv.Atoi(found[3])
		if err != nil {
			t.Fatal(err)
		}
		if len(found[1]) != percent*20/100 || len(found[1])+len(found[2]) != 20 {
			t.Errorf("the bar is wrong: %q", shown[0])
		}
		switch wide := len(what+" [....................] 100 % of 4.0 MiB "+name) < columns; {
		case utf8.RuneCountInString(shown[0]) >= columns:
			t.Errorf("it fills the line of %d columns: %q", columns, shown[0])
		case wide && !strings.HasSuffix(shown[0], "4.0 MiB "+name), !wide && !strings.HasSuffix(shown[0], "…"):
			t.Errorf("in %d columns the name is shown as %q", columns, shown[0])
		}
		percents = append(percents, percent)
	}
	last := -1
	steps := 0
	for _, p := range percents {
		if p < last {
			t.Errorf("%s went back: %v", what, percents)
		}
		if p != last {
			steps++
		}
		last = p
	}
	if steps < 5 || last != 100 {
		t.Errorf("%s was shown so far: %v", what, percents)
	}
}
