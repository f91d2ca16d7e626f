package savedir

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestName: testdata/names.json is what the packages for Python and Node.js are tested with, too.
func TestName(t *testing.T) {
	b, err := os.ReadFile("testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var names []struct {
		Sent, MIMEType string
		Index          int
		Name           string
	}
	if err := json.Unmarshal(b, &names); err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for _, c := range names {
		if got := Name(c.Sent, c.MIMEType, c.Index); got != c.Name {
			t.Errorf("%q of type %q becomes %q, want %q", c.Sent, c.MIMEType, got, c.Name)
		}
		types[c.MIMEType] = true
	}
	for media := range extensions {
		if !types[media] {
			t.Errorf("testdata/names.json has no file of type %s", media)
		}
	}
	if got := fileName("ü\xff.txt", 3); got != "ü.txt" { // which JSON cannot hold
		t.Errorf("bytes that are no text: %q", got)
	}
}

func FuzzFileName(f *testing.F) {
	f.Add("a/b.txt")
	f.Add(`..\x` + "\x00")
	f.Add("a" + partSuffix + " ")
	f.Add(strings.Repeat("a", 187) + partSuffix + strings.Repeat("b", 30))
	f.Fuzz(func(t *testing.T, sent string) {
		got := fileName(sent, 1)
		if got == "" || got[0] == '.' || got[0] == '-' || len(got) > 255 || strings.ContainsAny(got, "/\\\x00\n") || !utf8.ValidString(got) {
			t.Errorf("%q becomes %q", sent, got)
		}
		if strings.HasSuffix(got, partSuffix) { // the next Save would remove it as one that was given up
			t.Errorf("%q becomes %q, which is the name of a part", sent, got)
		}
	})
}
