package shell

import (
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is written is one word for a shell, and the one that was meant.
func TestWord(t *testing.T) {
	for in, want := range map[string]string{
		"": "''", "echo": "echo", "/opt/a-b_c.d/e+f:g@h%i,j=k": "/opt/a-b_c.d/e+f:g@h%i,j=k",
		"my handler": "'my handler'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "a;b": "'a;b'", "~": "'~'", "*": "'*'", "ä": "'ä'", "a\nb": "'a\nb'", `"\`: `'"\'`,
	} {
		got := Word(in)
		if got != want {
			t.Errorf("%q is written %s", in, got)
		}
		out, err := exec.Command("sh", "-c", "printf %s "+got).CombinedOutput()
		if err != nil || string(out) != in {
			t.Errorf("a shell reads %s as %q, %v", got, out, err)
		}
	}
}
