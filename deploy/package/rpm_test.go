package package_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func rpmTool(t *testing.T) string {
	t.Helper()
	tool, err := exec.LookPath("rpm")
	if err != nil {
		t.Skip("machine: rpm is not installed")
	}
	return tool
}

// inRPM is where an rpm has a path of the deb, "" for nowhere. Owned directories are those that hold nothing but ours.
func inRPM(path string) string {
	switch path = strings.TrimPrefix(path, "."); path {
	case "/usr/share/man/man1/":
		return ""
	case "/usr/share/zsh/vendor-completions/_blocksd":
		return "/usr/share/zsh/site-functions/_blocksd"
	}
	return strings.TrimSuffix(path, "/")
}

// modes are those of the contents, as rpm writes them.
var modes = map[string]string{"-rwxr-xr-x": "0100755", "-rw-r--r--": "0100644", "drwxr-xr-x": "040755"}

func lookIntoRPM(t *testing.T, file string) {
	rpm := rpmTool(t)
	if out := run(t, rpm, "-K", file); !strings.Contains(out, "digests OK") {
		t.Errorf("its digests: %s", out)
	}
	seen := map[string]string{}
	for line := range strings.Lines(run(t, rpm, "-qp", "--dump", file)) { // path size time digest mode owner group config doc …
		f := strings.Fields(line)
		if len(f) < 9 {
			t.Fatalf("rpm says %q", line)
		}
		seen[f[0]] = f[4]
		if f[5] != "root" || f[6] != "root" {
			t.Errorf("%s belongs to %s:%s", f[0], f[5], f[6])
		}
		if !slices.Contains(slices.Collect(maps.Values(modes)), f[4]) {
			t.Errorf("%s has the mode %s", f[0], f[4])
		}
	}
	for path, mode := range contents {
		if want := inRPM(path); want != "" && seen[want] != modes[mode] {
			t.Errorf("%s has the mode %q, want %s", want, seen[want], modes[mode])
		}
	}
	if got := run(t, rpm, "-qpc", file); got != "/etc/blocksd/blocksd.yaml\n" {
		t.Errorf("its configuration files are %q", got)
	}
	if got := run(t, rpm, "-qp", "--qf", "%{VERSION}-%{RELEASE} %{LICENSE}", file); got != "7.8.9~test.1-1 Apache-2.0" {
		t.Errorf("it says of itself %q", got)
	}
	for _, tag := range []string{"POSTIN", "PREUN", "POSTUN"} {
		script := filepath.Join(t.TempDir(), tag)
		if err := os.WriteFile(script, []byte(run(t, rpm, "-qp", "--qf", "%{"+tag+"}", file)), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "sh", "-n", script)
		if b, err := os.ReadFile(script); err != nil || !strings.Contains(string(b), "systemctl") {
			t.Errorf("its script %s is %q, %v", tag, b, err)
		}
	}
}

// TestRPMInstalls: rpm puts it into a root of its own and takes it out again, and keeps a configuration that somebody has changed.
func TestRPMInstalls(t *testing.T) {
	rpm := rpmTool(t)
	if os.Getuid() != 0 {
		t.Skip("machine: the tests do not run as root, so nothing can be given to others")
	}
	file, root := build(t)["rpm"], t.TempDir()
	in := func(args ...string) string {
		t.Helper()
		// Without what it says of Debian, whose packages are others, and without scripts, because there is no shell.
		return run(t, rpm, append([]string{"--root", root, "--nodeps", "--noscripts"}, args...)...)
	}
	run(t, rpm, "--root", root, "--initdb")
	in("-i", file)
	if out := run(t, rpm, "--root", root, "-V", "--nodeps", "blocksd"); out != "" {
		t.Errorf("what is installed differs from the package:\n%s", out)
	}
	if out := run(t, filepath.Join(root, "usr/bin/blocksd"), "version"); !strings.Contains(out, version) {
		t.Errorf("the program says %q", out)
	}
	settings := filepath.Join(root, "etc/blocksd/blocksd.yaml")
	if err := os.WriteFile(settings, []byte("drain: 31s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in("-U", "--replacepkgs", file)
	if b, err := os.ReadFile(settings); err != nil || string(b) != "drain: 31s\n" {
		t.Errorf("after the upgrade the configuration is %q, %v", b, err)
	}
	in("-e", "blocksd")
	for _, gone := range []string{"usr/bin/blocksd", "usr/lib/systemd/system/blocksd.service", "usr/lib/blocksd/plugins"} {
		if _, err := os.Stat(filepath.Join(root, gone)); err == nil {
			t.Errorf("%s is still there after the removal", gone)
		}
	}
	if b, err := os.ReadFile(settings + ".rpmsave"); err != nil || string(b) != "drain: 31s\n" {
		t.Errorf("after the removal the configuration is %q, %v", b, err)
	}
}
