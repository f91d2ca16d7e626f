package scripttest_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil/scripttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{"one.txt": "event\n  action\n", "two.txt": "other\n  action\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var played []string
	scripttest.Run(t, filepath.Join(dir, "*.txt"), func(t *testing.T, script string) string {
		played = append(played, filepath.Base(t.Name()))
		return script
	})
	if len(played) != 2 || played[0] != "one" || played[1] != "two" {
		t.Errorf("played %q", played)
	}
}
