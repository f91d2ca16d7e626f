// Package systemd_test checks the unit file with systemd's own tools.
package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/daemon/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const unit = "blocksd.service"

// maxExposure is the highest score of `systemd-analyze security` that we accept; 0 is a fortress, 10 an open door.
const maxExposure = 1.7

func read(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// installed copies the unit so that its program exists, which it need not on this machine.
func installed(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := read(t)
	if !strings.Contains(text, "\nExecStart=/usr/bin/blocksd run\n") {
		t.Fatal("ExecStart is not /usr/bin/blocksd run")
	}
	path := filepath.Join(t.TempDir(), unit)
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "/usr/bin/blocksd", self)), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func analyze(t *testing.T, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("machine: systemd-analyze is not installed")
	}
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestUnitIsValid(t *testing.T) {
	if out := strings.TrimSpace(analyze(t, "verify", installed(t))); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

func TestUnitIsHardened(t *testing.T) {
	out := analyze(t, "security", "--offline=true", "--no-pager", installed(t))
	m := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no score in\n%s", out)
	}
	if score, err := strconv.ParseFloat(m[1], 64); err != nil || score > maxExposure {
		t.Errorf("exposure %s, at most %.1f is accepted (%v)\n%s", m[1], maxExposure, err, out)
	}
}

// A start that systemd repeats by itself never comes to the limit of starts, which would make it refuse manual ones too.
func TestRestartsStayBelowTheLimit(t *testing.T) {
	number := func(key string) float64 {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + key + `=([0-9.]+)s?$`).FindStringSubmatch(read(t))
		if m == nil {
			t.Fatalf("the unit has no %s in seconds", key)
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if burst, pause, interval := number("StartLimitBurst"), number("RestartSec"), number("StartLimitIntervalSec"); burst*pause < 2*interval {
		t.Errorf("%v starts with pauses of %v s come to the limit of %v s", burst, pause, interval)
	}
}

// What the daemon relies on, whatever else is in the unit.
func TestUnitSaysWhatTheDaemonNeeds(t *testing.T) {
	text := read(t)
	c := config.Default()
	const margin = 15 * time.Second // the last words of the agents, and the handlers' time to stop
	for _, line := range []string{
		"SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
		"Type=notify", "KillMode=mixed", "Restart=always", "RestartPreventExitStatus=3 78 243", "StateDirectory=blocksd", "RuntimeDirectory=blocksd",
		"LoadCredential=" + config.CredentialName + ":/etc/blocksd/api-key",
		"TimeoutStopSec=" + strconv.Itoa(int((c.Drain + c.CancelGrace + margin).Seconds())) + "s",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
	if c.StateDir != "/var/lib/blocksd" || c.Socket != "/run/blocksd/blocksd.sock" {
		t.Errorf("defaults %s and %s are not the directories of the unit", c.StateDir, c.Socket)
	}
}
