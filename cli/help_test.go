package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestHelpFits: the help of every command fits a terminal, and nothing of it is lost.
func TestHelpFits(t *testing.T) {
	for _, cmd := range withSubcommands(newRoot(&app{Invocation: Invocation{Stdout: &bytes.Buffer{}}})) {
		var b bytes.Buffer
		cmd.SetOut(&b)
		cmd.InitDefaultHelpFlag()
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for _, width := range []int{50, 80, 200} {
			got := fitted(b.String(), width)
			for line := range strings.Lines(got) {
				if n := columnsOf(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("%s at %d columns: %d characters: %s", cmd.CommandPath(), width, n, line)
				}
			}
			if squeezed := func(s string) string { return strings.Join(strings.Fields(s), "") }; squeezed(got) != squeezed(b.String()) {
				t.Errorf("%s at %d columns is another text:\n%s", cmd.CommandPath(), width, got)
			}
		}
	}
	const flags = "  -x, --flag string   what it does, in some words\n"
	const want = "  -x, --flag string   what it does, in some\n                      words\n"
	if got := fitted(flags, 44); got != want {
		t.Errorf("%s", got)
	}
}

// Help that nobody can read is an error, as all output is.
func TestHelpOnAFullDisk(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {}, {"help"}, {"help", "status"}, {"check", "--help"}, {"config"}} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		code := Run(t.Context(), Invocation{Args: args, Stdout: full, Stderr: &stderr})
		full.Close()
		if want := "blocksd: write /dev/full: no space left on device\n"; code != 1 || stderr.String() != want {
			t.Errorf("%q: exit %d, %s", args, code, stderr.String())
		}
	}
}
