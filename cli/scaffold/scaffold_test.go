package scaffold

import (
	"bytes"
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/network/card"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every project has a valid card that names its handler, and a README and a test; Go files are formatted.
func TestMake(t *testing.T) {
	for _, language := range Languages {
		for _, stream := range []bool{false, true} {
			dir := filepath.Join(t.TempDir(), "my-agent")
			files, err := Make(Project{Dir: dir, Language: language, Stream: stream, Version: "v0.1.0"})
			if err != nil {
				t.Fatal(err)
			}
			c, err := card.Load(filepath.Join(dir, "agent-card.json"))
			if err != nil {
				t.Fatal(err)
			}
			if c.AgentName != "my_agent" || (len(c.Streams) == 1) != stream || len(c.Warnings()) > 0 {
				t.Errorf("%s: the card is %+v with the warnings %v", language, c, c.Warnings())
			}
			if _, err := os.Stat(filepath.Join(dir, c.Handler)); err != nil && language != "go" { // which is built first
				t.Error(err)
			}
			for _, want := range []string{"README.md", "test"} {
				if !strings.Contains(strings.Join(files, " "), want) {
					t.Errorf("%s: no %s among %q", language, want, files)
				}
			}
			for _, file := range files {
				b, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(b, []byte("{{")) || bytes.Contains(b, []byte("<no value>")) || !bytes.HasSuffix(b, []byte("\n")) || bytes.Contains(b, []byte("\n\n\n\n")) {
					t.Errorf("%s: %s is not as it should be:\n%s", language, file, b)
				}
				if strings.HasSuffix(file, ".go") {
					if formatted, err := format.Source(b); err != nil || !bytes.Equal(formatted, b) {
						t.Errorf("%s is not formatted: %v\n%s", file, err, b)
					}
				}
			}
		}
	}
}

// The directory of blocksd may have any name.
func TestReplace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "agent")
	if _, err := Make(Project{Dir: dir, Language: "go", Version: "v0.1.0", Replace: `/my projects/it's "blocksd"`}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if want := `=> "/my projects/it's \"blocksd\""`; err != nil || !strings.Contains(string(b), want) {
		t.Errorf("%v, no %s in\n%s", err, want, b)
	}
}

func TestMakeMistakes(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, p := range map[string]Project{
		`there is no language "nod", did you mean "node"?`: {Dir: "a", Language: "nod"},
		"is there and not empty":                           {Dir: full, Language: "go"},
		`the name "a b" cannot be that of an agent`:        {Dir: filepath.Join(t.TempDir(), "a b"), Language: "go"},
		`the name "-x" cannot`:                             {Dir: "-x", Language: "exec"},
	} {
		if _, err := Make(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
}
