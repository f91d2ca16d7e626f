package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// In the journal the reason for which a command failed is a record with the priority of an error, also before there is a log.
func TestReasonsInTheJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	code := Run(t.Context(), Invocation{
		Args: []string{"run", "--drian", "3s"}, Stdout: f, Stderr: f, Env: []string{fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino)},
	})
	written, err := os.ReadFile(f.Name())
	const want = `<3>level=ERROR msg="the daemon does not start, and systemd does not try again (exit status 78) until you correct this and start it:"` + "\n" +
		`<3>level=ERROR msg="unknown flag --drian of blocksd run, did you mean --drain?"` + "\n"
	if code != exitConfig || err != nil || string(written) != want {
		t.Errorf("exit %d, written %s, %v", code, written, err)
	}
}
