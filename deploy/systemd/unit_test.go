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

const (
	unit     = "blocksd.service"
	launcher = "blocksd-launcher.service"
	socket   = "blocksd-launcher.socket"
)

// maxExposure is the highest score of `systemd-analyze security` that we accept; 0 is a fortress, 10 an open door. What the
// launcher has beyond the daemon is root, the right to change users, and other users to change to.
var maxExposure = map[string]float64{unit: 1.7, launcher: 2.2}

func read(t *testing.T) string { return text(t, unit) }

func text(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// installed copies the units so that their program exists, which it need not on this machine, and returns their directory.
func installed(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"ExecStart=/usr/bin/blocksd run", "ExecReload=/usr/bin/blocksd reload"} {
		if !strings.Contains(read(t), "\n"+line+"\n") {
			t.Fatalf("%s is missing", line)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{unit, launcher, socket} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text(t, name), "/usr/bin/blocksd", self)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
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
	dir := installed(t)
	out := analyze(t, "verify", filepath.Join(dir, unit), filepath.Join(dir, launcher), filepath.Join(dir, socket))
	if out = strings.TrimSpace(out); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

func TestUnitsAreHardened(t *testing.T) {
	dir := installed(t)
	for name, most := range maxExposure {
		out := analyze(t, "security", "--offline=true", "--no-pager", filepath.Join(dir, name))
		m := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no score in\n%s", out)
		}
		if score, err := strconv.ParseFloat(m[1], 64); err != nil || score > most {
			t.Errorf("exposure of %s %s, at most %.1f is accepted (%v)\n%s", name, m[1], most, err, out)
		}
	}
}

// Handlers inherit the sandbox of the launcher: what keeps the daemon's handlers away keeps those away as well, but for lines with
// a reason.
func TestTheLauncherKeepsHandlersFromWhatTheDaemonDoes(t *testing.T) {
	other := map[string]string{
		"PrivateUsers=yes": "there are no users to change to behind it", "ProcSubset=pid": "programs look at memory and processors in /proc",
		"CapabilityBoundingSet=": "it needs some, and handlers get none", "RemoveIPC=yes": "it is not for root; PrivateIPC= does the same",
	}
	sandbox := regexp.MustCompile(`(?m)^(?:Private|Protect|Restrict|NoNew|Capability|Ambient|Lock|RemoveIPC|Keyring|SystemCall|Temporary|Inaccessible|DevicePolicy)\w*=.*$`)
	lines := sandbox.FindAllString(read(t), -1)
	if len(lines) < 20 {
		t.Fatalf("the daemon's unit has only %q", lines)
	}
	for _, line := range lines {
		if other[line] == "" && !strings.Contains(text(t, launcher), "\n"+line+"\n") {
			t.Errorf("the launcher's unit lacks %s", line)
		}
	}
}

// What the launcher relies on.
func TestLauncherUnits(t *testing.T) {
	c := config.Default()
	for _, line := range []string{
		"CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL CAP_SETPCAP", "Group=blocksd", "UMask=0007", "RuntimeDirectory=blocksd-launcher", "RuntimeDirectoryMode=3771",
		"ExecStart=/usr/bin/blocksd launcher --daemon-user blocksd --daemon-unit " + unit + " --users " + c.Isolation.Users + " --dirs /run/blocksd-launcher",
		"PartOf=" + unit, "Before=" + unit,
	} {
		if !strings.Contains(text(t, launcher), "\n"+line+"\n") {
			t.Errorf("%s lacks %s", launcher, line)
		}
	}
	for _, line := range []string{"ListenSequentialPacket=" + c.Isolation.Launcher, "SocketUser=blocksd", "SocketMode=0600"} {
		if !strings.Contains(text(t, socket), "\n"+line+"\n") {
			t.Errorf("%s lacks %s", socket, line)
		}
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
