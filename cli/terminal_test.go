package cli

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/blocksd/blocksd/internal/sources"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/internal/testutil/terminal"
)

// onScreen is this program on a pseudo-terminal.
type onScreen struct {
	*terminal.Terminal
	cmd *exec.Cmd
}

// onTerminal starts this program on a terminal of that size.
func onTerminal(t *testing.T, columns, rows int, env []string, args ...string) onScreen {
	t.Helper()
	cmd := exec.Command("blocksd", args...)
	cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "LANG=C.UTF-8"), env...)
	p, err := terminal.Start(cmd, columns, rows)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return onScreen{p, cmd}
}

func (p onScreen) press(t *testing.T, keys string) {
	t.Helper()
	if err := p.Press(keys); err != nil {
		t.Fatal(err)
	}
}

// shows waits until the screen has all the texts.
func (p onScreen) shows(t *testing.T, texts ...string) string {
	t.Helper()
	var picture string
	testutil.Eventually(t, fileLimit, "the screen shows "+strings.Join(texts, ", "), func() bool {
		picture = p.Screen.String()
		for _, text := range texts {
			if !strings.Contains(picture, text) {
				return false
			}
		}
		return true
	})
	return picture
}

// ends waits for the end of the program and returns its exit code.
func (p onScreen) ends(t *testing.T) int {
	t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(fileLimit):
		t.Fatalf("it did not end within %v: %q", fileLimit, p.Written())
	}
	return p.ExitCode()
}

// startEcho starts a sandbox and a daemon with the echo handler as programs, and returns the variables to reach both.
func startEcho(t *testing.T) (env []string) {
	t.Helper()
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plugins, envFile := filepath.Join(dir, "plugins"), filepath.Join(dir, "env")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(plugins, "echo"), "../handlers/echo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	program := func(args ...string) {
		cmd := exec.Command("blocksd", args...)
		cmd.Env = append(os.Environ(), env...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		})
	}
	cards := filepath.Join(dir, "cards")
	card, err := os.ReadFile(filepath.Join("..", "handlers", "echo", "agent-card.json"))
	if err := errors.Join(err, os.Mkdir(cards, 0o755), os.WriteFile(filepath.Join(cards, "echo.json"), card, 0o600)); err != nil {
		t.Fatal(err)
	}
	program("sandbox", "--listen", "127.0.0.1:0", "--agents", cards, "--env-file", envFile)
	testutil.Eventually(t, fileLimit, "the sandbox listens", func() bool { _, err := os.Stat(envFile); return err == nil })
	text, err := os.ReadFile(envFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		env = append(env, strings.TrimSpace(line))
	}
	socket := filepath.Join(dir, "s")
	env = append(env, "BLOCKSD_SOCKET="+socket)
	program("run", "--state-dir", filepath.Join(dir, "state"), "--socket", socket, "--plugins", plugins)
	if r := runCLI(t, env, Interrupts{}, "status", "--wait", "READY"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	return env
}

// TestDevOnTerminal: dev keeps its live line in one line on a narrow terminal too, and ends with a summary.
func TestDevOnTerminal(t *testing.T) {
	dir := t.TempDir()
	p := onTerminal(t, 50, 40, []string{"HOME=" + dir, "XDG_STATE_HOME="}, "dev", "--plugins", dir)
	p.shows(t, "network   http://127.0.0.1:", "In another terminal:", "0 of 0 agents online")
	if r := runCLI(t, []string{"HOME=" + dir}, Interrupts{}, "drain"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if n := strings.Count(p.Screen.String(), "agents online"); n != 1 {
		t.Errorf("the live line is there %d times:\n%s", n, p.Screen.String())
	}
	p.press(t, "\x03")
	if code := p.ends(t); code != 0 {
		t.Errorf("exit code %d: %q", code, p.Written())
	}
	picture := p.shows(t, "draining", "done      0 tasks in ")
	if strings.Contains(picture, "agents online") {
		t.Errorf("the live line is still there:\n%s", picture)
	}
}

// TestTerminals: what runs on a whole terminal does so on a real one.
func TestTerminals(t *testing.T) {
	env := startEcho(t)
	t.Run("top", func(t *testing.T) {
		for _, size := range [][2]int{{80, 24}, {50, 20}, {200, 50}} {
			p := onTerminal(t, size[0], size[1], env, "top")
			p.shows(t, "AGENT▲", "echo", "online", ": ready", "0.0 tasks/s", "tab list")
			p.press(t, "2")
			p.shows(t, "HANDLER▲")
			p.press(t, "/zzz\r")
			p.shows(t, "no handlers match", `only "zzz"`)
			p.press(t, "\x1b")
			p.shows(t, "›  echo")
			p.press(t, "\r")
			p.shows(t, "handler echo", "state     ready", "it has written nothing yet")
			p.press(t, "q")
			if code := p.ends(t); code != 0 {
				t.Errorf("exit code %d: %q", code, p.Written())
			}
			if !strings.Contains(p.Written(), "\x1b[?1049h") || !strings.Contains(p.Written(), "\x1b[?1049l") {
				t.Error("the screen was not given back")
			}
		}
	})
	t.Run("top of another size", func(t *testing.T) {
		p := onTerminal(t, 80, 24, env, "top")
		p.shows(t, "BILLING", "tab list")
		if err := p.Resize(50, 16); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, fileLimit, "the last line has the keys", func() bool {
			lines := strings.Split(strings.TrimRight(p.Screen.String(), "\n"), "\n")
			return strings.HasPrefix(lines[len(lines)-1], "tab list") && utf8.RuneCountInString(lines[len(lines)-1]) <= 50
		})
		p.press(t, "\x03")
		if code := p.ends(t); code != 0 {
			t.Errorf("after Ctrl-C the exit code is %d", code)
		}
	})
	t.Run("top that is terminated", func(t *testing.T) {
		p := onTerminal(t, 80, 24, env, "top")
		p.shows(t, "tab list")
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.ends(t); code != 0 || !strings.Contains(p.Written(), "\x1b[?1049l") {
			t.Errorf("exit code %d: %q", code, p.Written())
		}
	})
	t.Run("top with NO_COLOR", func(t *testing.T) {
		coloured, plain := onTerminal(t, 80, 24, env, "top"), onTerminal(t, 80, 24, append(env, "NO_COLOR=1"), "top")
		if want, got := coloured.shows(t, "tab list", "online"), plain.shows(t, "tab list", "online"); !strings.Contains(got, "›  echo") || !strings.Contains(want, "›  echo") {
			t.Errorf("%s\n%s", want, got)
		}
		if !strings.Contains(coloured.Written(), "\x1b[32m") || strings.Contains(plain.Written(), "\x1b[32m") {
			t.Errorf("colours are where they should not be: %q", plain.Written())
		}
	})
	t.Run("status --watch", func(t *testing.T) {
		p := onTerminal(t, 50, 20, env, "status", "--watch")
		p.shows(t, "AGENT", "echo", "online")
		testutil.Eventually(t, fileLimit, "there is a second picture", func() bool { return strings.Count(p.Written(), "AGENT") > 1 })
		p.press(t, "\x03")
		if code := p.ends(t); code != 0 {
			t.Errorf("after Ctrl-C the exit code is %d", code)
		}
		if n := strings.Count(p.Screen.String(), "AGENT"); n != 1 {
			t.Errorf("one picture is below the other:\n%s", p.Screen.String())
		}
	})
	t.Run("events", func(t *testing.T) {
		p := onTerminal(t, 50, 20, env, "events", "-f", "-n", "3")
		p.shows(t, "agent_state")
		if r := runCLI(t, env, Interrupts{}, "call", "echo", "--text", "hi"); r.code != 0 {
			t.Errorf("%+v", r)
		}
		p.shows(t, "task_accepted", "task_started", "task_ended")
		p.press(t, "\x03")
		if code := p.ends(t); code != 0 {
			t.Errorf("after Ctrl-C the exit code is %d", code)
		}
	})
	t.Run("top --json", func(t *testing.T) {
		cmd := exec.Command("blocksd", "top", "--json")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.StdoutPipe()
		if err := errors.Join(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		lines := json.NewDecoder(out)
		for range 2 {
			var form topForm
			if err := lines.Decode(&form); err != nil || !form.Status.Ready || form.Tasks == nil || form.Time.IsZero() {
				t.Errorf("%+v, %v", form, err)
			}
		}
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	t.Run("top off a terminal", func(t *testing.T) {
		if r := runCLI(t, env, Interrupts{}, "top"); r.code != exitUsage || r.stderr != "blocksd: top needs a terminal: use blocksd status --watch, or top --json\n" {
			t.Errorf("%+v", r)
		}
	})
}
