package catalog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

func TestPins(t *testing.T) {
	path := filepath.Join(plugins(t), PinsFile)
	if pins, problems := ReadPins(path); len(pins.Sums) != 0 || len(problems) != 0 {
		t.Errorf("no file: %v %v", pins, problems)
	}
	sum := strings.Repeat("a", 64)
	for _, name := range []string{"echo", "adder", "echo"} {
		if err := Pin(path, name, sum); err != nil {
			t.Fatal(err)
		}
	}
	pins, problems := ReadPins(path)
	if d := cmp.Diff(map[string]string{"echo": sum, "adder": sum}, pins.Sums); d != "" || len(problems) > 0 {
		t.Error(d, problems)
	}
	pins, problems = parsePins("FILE", []byte("# comment\n\nnonsense\n"+strings.ToUpper(sum)+" *echo\n"+sum+"  ../x\n"))
	if d := cmp.Diff(map[string]string{"echo": sum}, pins.Sums); d != "" {
		t.Error(d)
	}
	want := []string{
		"line 3 of FILE is not a SHA-256 and the name of a handler: correct it, remove it, or pin the handler again",
		"line 5 of FILE is not a SHA-256 and the name of a handler: correct it, remove it, or pin the handler again",
	}
	if d := cmp.Diff(want, problems); d != "" {
		t.Error(d)
	}
}

// Of two checksums for one handler nobody knows which counts, so neither does.
func TestContradictingPins(t *testing.T) {
	path, one, two := filepath.Join(plugins(t), PinsFile), strings.Repeat("1", 64), strings.Repeat("2", 64)
	lines := func(sums ...string) (b []byte) {
		for _, sum := range append(sums, one) {
			b = append(b, sum+"  echo\n"...)
		}
		return append(b, one+"  adder\n"...)
	}
	if err := os.WriteFile(path, lines(one), 0o600); err != nil {
		t.Fatal(err)
	}
	pins, problems := ReadPins(path)
	if sum, certain := pins.Of("echo"); sum != one || !certain || len(problems) > 0 {
		t.Errorf("the same pin twice: %s, %v, %q", sum, certain, problems)
	}
	if err := os.WriteFile(path, lines(one, two), 0o600); err != nil {
		t.Fatal(err)
	}
	pins, problems = ReadPins(path)
	if sum, certain := pins.Of("echo"); sum != "" || certain || len(problems) != 2 || !strings.Contains(problems[0], "line 2 of "+path+" has another checksum for handler echo") {
		t.Errorf("two pins: %s, %v, %q", sum, certain, problems)
	}
	if sum, certain := pins.Of("adder"); sum != one || !certain {
		t.Errorf("the other handler: %s, %v", sum, certain)
	}
	if err := Pin(path, "echo", two); err != nil {
		t.Fatal(err)
	}
	pins, problems = ReadPins(path)
	if sum, certain := pins.Of("echo"); sum != two || !certain || len(problems) > 0 {
		t.Errorf("pinned again: %s, %v, %q", sum, certain, problems)
	}
}

func FuzzPins(f *testing.F) {
	f.Add([]byte("# x\n" + strings.Repeat("a", 64) + "  echo\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pins, _ := parsePins("FILE", b)
		for name, sum := range pins.Sums {
			if !IsChecksum(sum) || name == "" || strings.Contains(name, "/") {
				t.Fatalf("pin %q %q", name, sum)
			}
		}
	})
}

// A line that cannot be read stops the handler that it may mean, and no other; a file that cannot be read stops all.
func TestUnreadPins(t *testing.T) {
	sum := strings.Repeat("a", 64)
	wide := func(s string) string {
		var b strings.Builder
		for _, u := range utf16.Encode([]rune(s)) {
			b.WriteByte(byte(u))
			b.WriteByte(byte(u >> 8))
		}
		return b.String()
	}
	for name, tt := range map[string]struct {
		content          string
		stopped, running []string
		pinned           []string
	}{
		"a byte order mark":                  {"\xef\xbb\xbf" + sum + "  echo\n", nil, []string{"other"}, []string{"echo"}},
		"a byte order mark before a comment": {"\xef\xbb\xbf# x\n" + sum + "  echo\n", nil, []string{"other"}, []string{"echo"}},
		"lines of Windows":                   {"# x\r\n" + sum + "  echo\r\n", nil, []string{"other"}, []string{"echo"}},
		"a checksum that is too short":       {sum[1:] + "  echo\n", []string{"echo"}, []string{"other"}, nil},
		"a checksum that is too long":        {sum + "0  echo\n" + sum + "  other", []string{"echo"}, []string{"third"}, []string{"other"}},
		"in the other order":                 {"echo  " + sum, []string{"echo"}, []string{"other"}, nil},
		"with a colon, as other tools write": {"SHA256 (echo) = " + sum + "\necho: " + sum, []string{"(echo)", "echo:"}, []string{"other"}, nil},
		"a path":                             {sum + "  ./echo", []string{"echo"}, []string{"other"}, nil},
		"a name with a space":                {sum[1:] + "  my echo", []string{"my echo"}, []string{"other"}, nil},
		"a checksum without a name":          {sum + "\n" + sum + "  echo\n", []string{"other"}, nil, []string{"echo"}},
		"two lines, one of them right":       {sum[1:] + "  echo\n" + sum + "  echo\n", nil, []string{"other"}, []string{"echo"}},
		"in Latin-1":                         {sum + "  caf\xe9\n" + sum + "  echo\n", []string{"café", "caf\xe9"}, []string{"other"}, []string{"echo"}},
		"in UTF-16":                          {"\xff\xfe" + wide(sum+"  echo\n"), []string{"echo", "other"}, nil, nil},
		"in UTF-16 without a mark":           {wide(sum + "  echo\n"), []string{"echo", "other"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			pins, problems := parsePins("FILE", []byte(tt.content))
			if (len(tt.stopped) == 0) != (len(problems) == 0) && name != "two lines, one of them right" {
				t.Errorf("problems %q", problems)
			}
			for _, h := range tt.stopped {
				if sum, certain := pins.Of(h); sum != "" || certain {
					t.Errorf("%s: %q, %v", h, sum, certain)
				}
			}
			for _, h := range tt.running {
				if sum, certain := pins.Of(h); sum != "" || !certain {
					t.Errorf("%s: %q, %v", h, sum, certain)
				}
			}
			for _, h := range tt.pinned {
				if got, certain := pins.Of(h); got != sum || !certain {
					t.Errorf("%s: %q, %v", h, got, certain)
				}
			}
		})
	}
	if pins, problems := ReadPins(t.TempDir()); len(problems) != 1 {
		t.Errorf("a directory: %v", problems)
	} else if _, certain := pins.Of("echo"); certain {
		t.Error("a directory: unpinned")
	}
}

// What is pinned again replaces the line that could not be read, and only that one.
func TestPinAgain(t *testing.T) {
	path := filepath.Join(plugins(t), PinsFile)
	sum := strings.Repeat("a", 64)
	file(t, path, "\xef\xbb\xbfx  echo\nx  other\n"+sum+"\n"+sum+"  third\n", 0o644)
	if err := Pin(path, "echo", sum); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	want := "# Checksums that handlers must have, written by blocksd handler pin.\n" + sum + "  echo\n" + sum + "  third\nx  other\n" + sum + "\n"
	if err != nil || string(b) != want {
		t.Errorf("%v\n%s", err, b)
	}
	file(t, path, "\xff\xfex\x00", 0o644)
	if err := Pin(path, "echo", sum); err == nil || !strings.HasSuffix(err.Error(), "it is encoded in UTF-16: save it as UTF-8") {
		t.Errorf("in UTF-16: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "\xff\xfex\x00" {
		t.Errorf("a file that cannot be read is written over: %q", b)
	}
}

// A name that would not be read back is refused.
func TestPinRefusesNames(t *testing.T) {
	path := filepath.Join(plugins(t), PinsFile)
	for _, name := range []string{"", " echo", "echo ", "*echo", "a\nb", "caf\xe9", "a/b", "echo\t", "echo\u00a0", "echo\r"} {
		if err := Pin(path, name, strings.Repeat("a", 64)); err == nil || !strings.Contains(err.Error(), "cannot hold this name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a refusal has written the file")
	}
	for _, name := range []string{"my echo", "a\tb", "café", "#echo", "e*o", "-"} {
		if err := Pin(path, name, strings.Repeat("b", 64)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if pins, problems := ReadPins(path); len(pins.Sums) != 6 || len(problems) > 0 {
		t.Errorf("read back: %q %q", pins.Sums, problems)
	}
}
