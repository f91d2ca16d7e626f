package cli

import (
	"bytes"
	"strings"
	"testing"
)

// TestTransferIsShown: how far a large file has come stands on the last line of a terminal, within its width, and nowhere
// else.
func TestTransferIsShown(t *testing.T) {
	for _, c := range []struct {
		what  string
		live  bool
		width int
		name  string
		done  int64
		size  int64
		want  string
	}{
		{"half", true, 80, "a.bin", 1 << 20, 2 << 20, "uploading [##########..........]  50 % of 2.0 MiB a.bin"},
		{"nothing yet", true, 80, "a.bin", 0, 1 << 20, "uploading [....................]   0 % of 1.0 MiB a.bin"},
		{"all", true, 80, "a.bin", 3 << 20, 3 << 20, "uploading [####################] 100 % of 3.0 MiB a.bin"},
		{"more than was said", true, 80, "a.bin", 9 << 20, 3 << 20, "uploading [####################] 100 % of 3.0 MiB a.bin"},
		{"narrow", true, 50, "a-long-name.bin", 1 << 20, 2 << 20, "uploading [##########..........]  50 % of 2.0 Mi…"},
		{"control characters", true, 80, "a\x1b[2J", 1 << 20, 2 << 20, "uploading [##########..........]  50 % of 2.0 MiB a\uFFFD[2J"},
		{"small", true, 80, "a.bin", 1, 1<<20 - 1, ""},
		{"no terminal", false, 80, "a.bin", 1 << 20, 2 << 20, ""},
	} {
		var out bytes.Buffer
		p := &callPrinter{results: &out, notes: &out, live: c.live, width: c.width}
		p.transfer("uploading", c.name, c.done, c.size)
		p.transfer("uploading", c.name, c.done, c.size) // the same is printed once
		want := c.want
		if want != "" {
			want = eraseLine + want
		}
		if out.String() != want {
			t.Errorf("%s: %q, want %q", c.what, out.String(), want)
		}
		if p.clear(); want != "" && !strings.HasSuffix(out.String(), eraseLine) {
			t.Errorf("%s: it stays: %q", c.what, out.String())
		}
	}
}

// TestRemarksStandAlone: what goes to standard error does not stand behind the status text, which stays the last line.
func TestRemarksStandAlone(t *testing.T) {
	var screen bytes.Buffer // both
	p := &callPrinter{results: &screen, notes: &screen, errors: &screen, live: true, width: 80}
	p.remark("first")
	p.progress("working")
	p.remark("second")
	p.say("third")
	p.clear()
	want := "first\n" + eraseLine + "status: working" + eraseLine + "second\n" + "status: working" + eraseLine + "third\n" + "status: working" + eraseLine
	if screen.String() != want {
		t.Errorf("%q, want %q", screen.String(), want)
	}
}
