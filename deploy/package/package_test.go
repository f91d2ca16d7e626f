// Package package_test builds the packages and looks into them.
package package_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/sources"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const version = "7.8.9-test.1"

// build makes the packages in a new directory and returns its files by their last letters, deb and rpm.
func build(t *testing.T) map[string]string {
	t.Helper()
	nfpm, err := filepath.Abs("../../.tools/nfpm")
	if err == nil {
		_, err = os.Stat(nfpm)
	}
	if err != nil {
		t.Skip("nfpm is not built: make .tools/nfpm")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "../../scripts/package", dir, runtime.GOARCH)
	cmd.Env = append(os.Environ(), "NFPM="+nfpm, "VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	made := map[string]string{}
	for _, kind := range []string{"deb", "rpm"} {
		found, err := filepath.Glob(filepath.Join(dir, "*."+kind))
		if err != nil || len(found) != 1 {
			t.Fatalf("%d packages of kind %s, %v", len(found), kind, err)
		}
		made[kind] = found[0]
	}
	return made
}

func sum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// TestPackages: the same source gives the same bytes, and what is in them is as a system expects it.
func TestPackages(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
	first, second := build(t), build(t)
	for kind := range first {
		if a, b := sum(t, first[kind]), sum(t, second[kind]); a != b {
			t.Errorf("the %s differs from build to build: %s and %s", kind, a, b)
		}
	}
	t.Run("rpm", func(t *testing.T) { lookIntoRPM(t, first["rpm"]) })
	t.Run("deb", func(t *testing.T) { lookIntoDeb(t, first["deb"]) })
}

// contents are what must be in the package, with mode and owner as dpkg-deb writes them.
var contents = map[string]string{
	"./usr/bin/blocksd":                                  "-rwxr-xr-x",
	"./usr/lib/systemd/system/blocksd.service":           "-rw-r--r--",
	"./usr/lib/systemd/system/blocksd-launcher.service":  "-rw-r--r--",
	"./usr/lib/systemd/system/blocksd-launcher.socket":   "-rw-r--r--",
	"./usr/lib/sysusers.d/blocksd.conf":                  "-rw-r--r--",
	"./usr/lib/tmpfiles.d/blocksd.conf":                  "-rw-r--r--",
	"./etc/blocksd/":                                     "drwxr-xr-x",
	"./etc/blocksd/blocksd.yaml":                         "-rw-r--r--",
	"./usr/lib/blocksd/plugins/":                         "drwxr-xr-x",
	"./usr/share/man/man1/":                              "drwxr-xr-x",
	"./usr/share/man/man1/blocksd.1.gz":                  "-rw-r--r--",
	"./usr/share/man/man1/blocksd-doctor.1.gz":           "-rw-r--r--",
	"./usr/share/bash-completion/completions/blocksd":    "-rw-r--r--",
	"./usr/share/zsh/vendor-completions/_blocksd":        "-rw-r--r--",
	"./usr/share/fish/vendor_completions.d/blocksd.fish": "-rw-r--r--",
	"./usr/share/doc/blocksd/compiled.conf":              "-rw-r--r--",
	"./usr/share/doc/blocksd/copyright":                  "-rw-r--r--",
	"./usr/share/doc/blocksd/blocksd.cdx.json":           "-rw-r--r--",
	"./usr/share/doc/blocksd/blocksd.example.yaml":       "-rw-r--r--",
}

func lookIntoDeb(t *testing.T, deb string) {
	tool, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Skip("machine: dpkg-deb is not installed")
	}
	seen := map[string]string{}
	line := regexp.MustCompile(`(?m)^(\S{10}) (\S+)\s+\d+ \S+ \S+ (\S+)$`)
	for _, m := range line.FindAllStringSubmatch(run(t, tool, "-c", deb), -1) {
		mode, owner, path := m[1], m[2], m[3]
		seen[path] = mode
		if owner != "root/root" {
			t.Errorf("%s belongs to %s", path, owner)
		}
		if strings.Contains(mode[4:], "w") || strings.ContainsAny(mode, "sStT") {
			t.Errorf("%s has the mode %s", path, mode)
		}
		if strings.HasPrefix(mode, "d") && mode != "drwxr-xr-x" {
			t.Errorf("the directory %s has the mode %s", path, mode)
		}
	}
	for path, mode := range contents {
		if seen[path] != mode {
			t.Errorf("%s has the mode %q, want %s", path, seen[path], mode)
		}
	}
	root := t.TempDir()
	run(t, tool, "-x", deb, root)
	control := filepath.Join(root, "DEBIAN")
	run(t, tool, "-e", deb, control)
	if b, err := os.ReadFile(filepath.Join(control, "conffiles")); err != nil || string(b) != "/etc/blocksd/blocksd.yaml\n" {
		t.Errorf("conffiles are %q, %v", b, err)
	}
	if got := strings.TrimSpace(run(t, tool, "-f", deb, "Version")); got != "7.8.9~test.1-1" {
		t.Errorf("the version of the package is %s", got)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		run(t, "sh", "-n", filepath.Join(control, script))
	}
	program := filepath.Join(root, "usr/bin/blocksd")
	var v struct{ Version string }
	if err := json.Unmarshal([]byte(run(t, program, "version", "--json")), &v); err != nil || v.Version != version {
		t.Errorf("the program says version %q, %v", v.Version, err)
	}
	run(t, program, "check", "--config", filepath.Join(root, "etc/blocksd/blocksd.yaml"))
	shipped, err := os.ReadFile("../systemd/blocksd.service")
	if err != nil {
		t.Fatal(err)
	}
	if unit, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system/blocksd.service")); err != nil || !bytes.Equal(unit, shipped) {
		t.Errorf("the unit is another one, %v", err)
	}
}
