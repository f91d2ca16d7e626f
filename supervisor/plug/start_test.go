package plug

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/supervisor/unit"
)

// Each mistake at the start has its class and one sentence, and leaves neither a process nor a directory.
func TestBadStarts(t *testing.T) {
	r := newRig(t)
	r.Timeouts = Timeouts{Handshake: 700 * time.Millisecond, Describe: time.Second}
	tests := []struct {
		alias  string
		reason unit.Reason
		text   string
	}{
		{"never-answers", unit.StartTimeout, `could not be started because it printed no handshake within 700ms$`},
		{"not-a-plugin", unit.Handshake, `it is not a Blocks handler: it printed "Hello! I am an ordinary program." instead of a handshake; its last line was`},
		{"chatty", unit.Handshake, `it is not a Blocks handler: it printed "Hello! I am an ordinary program."`},
		{"exit-at-start", unit.ExitCode, `it ended with exit code 3 before its handshake; its last line was "cannot find my model file"$`},
		{"kill-at-start", unit.Signal, `it was ended by signal 9 \(killed\) before its handshake$`},
		{"wrong-version", unit.Handshake, `it speaks version 99 of the handler protocol and this daemon speaks 1: rebuild it`},
		{"tcp", unit.Handshake, `it listens on a "tcp" address: only Unix sockets are allowed`},
		{"elsewhere", unit.Handshake, `its socket "/run/other.sock" is outside of its own directory`},
		{"no-socket", unit.Handshake, `its socket cannot be connected to: no such file or directory`},
		{"deaf", unit.StartTimeout, `its connection did not work within 700ms`},
		{"long-first-line", unit.Handshake, `it is not a Blocks handler: it printed "xxxx`},
	}
	for _, tt := range tests {
		t.Run(tt.alias, func(t *testing.T) {
			t.Parallel()
			c, err := r.start(t, "badhandler", tt.alias)
			if err == nil {
				c.Kill()
				c.Close()
				t.Fatal("it started")
			}
			var f *Failure
			if !errors.As(err, &f) || f.Reason != tt.reason || !regexp.MustCompile(tt.text).MatchString(f.Text) {
				t.Errorf("failure %v: %v", f.Reason, err)
			}
			if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "handler badhandler-"+tt.alias+" could not be started because ") {
				t.Errorf("not one sentence: %v", err)
			}
		})
	}
}

func TestNoBinary(t *testing.T) {
	r := newRig(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("just text\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/nowhere": "no such file or directory", text: "exec format error", "/tmp": "permission denied"} {
		c := r.Config
		c.Handler, c.Path = "h", path
		_, err := Start(t.Context(), c)
		var f *Failure
		if !errors.As(err, &f) || f.Reason != unit.Spawn || err.Error() != "handler h could not be started: start "+path+": "+want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestDescription(t *testing.T) {
	r := newRig(t)
	d := r.conn(t, "echo", "").Description()
	if d.Name != "echo" || d.Version == "" || d.SDK == "" || len(d.Cards) != 1 || !d.Cancel || !d.Idempotent || !d.Described {
		t.Errorf("description %+v", d)
	}
	if d := r.conn(t, "badhandler", "minimal").Description(); d.Described || d.Cancel {
		t.Errorf("description of the minimal handler %+v", d)
	}
}

func TestStopLadder(t *testing.T) {
	r := newRig(t)
	r.Timeouts = Timeouts{Stop: 2 * time.Second, Terminate: 300 * time.Millisecond}
	for _, alias := range []string{"", "minimal"} { // with Shutdown, and without
		c := r.conn(t, "badhandler", alias)
		at := time.Now()
		if !c.Stop() {
			t.Fatal("not stopped")
		}
		if d := time.Since(at); d > time.Second {
			t.Errorf("%q took %v to stop", alias, d)
		}
	}
	// A frozen process answers nothing and cannot even take SIGTERM.
	r.Timeouts.Stop = 300 * time.Millisecond
	c := r.conn(t, "badhandler", "")
	freeze(t, c)
	if !c.Stop() {
		t.Fatal("not stopped")
	}
	if f := c.Exit(); f.Reason != unit.Signal || f.Text != "it was ended by signal 9 (killed)" {
		t.Errorf("exit %v", f)
	}
}

func FuzzHandshake(f *testing.F) {
	for _, s := range []string{"1|1|unix|/a/b|grpc|", "1|1|unix|/a/b|grpc||true", "1|99|unix|/x|grpc|", "|||||", "1|1|tcp|x|grpc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		socket, err := parseHandshake(line)
		if err == nil && !filepath.IsAbs(socket) {
			t.Errorf("socket %q", socket)
		}
		if err != nil && (socket != "" || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: %v", socket, err)
		}
	})
}
