package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/internal/sources"
)

// TestOtherSystems: what developers use builds where they sit. Nothing of it is run: our tests run on Linux.
func TestOtherSystems(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
	program, libraries := []string{"."}, []string{"./client/...", "./pluginsdk"}
	for _, c := range []struct {
		system  string
		command []string
	}{
		{"darwin/arm64", []string{"vet", "./..."}}, // with all tests
		{"darwin/amd64", append([]string{"build", "-o", os.DevNull}, program...)},
		{"linux/arm64", []string{"vet", "./..."}},
		{"windows/amd64", append([]string{"build"}, libraries...)}, // their tests need the sandbox, which is not for Windows
	} {
		t.Run(c.system+" "+c.command[0], func(t *testing.T) {
			system, architecture, _ := strings.Cut(c.system, "/")
			// Without paths, so that what was compiled for a clone elsewhere counts.
			args := append([]string{c.command[0], "-trimpath"}, c.command[1:]...)
			cmd := exec.CommandContext(t.Context(), "go", args...)
			cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+architecture, "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v for %s: %v\n%s", cmd, c.system, err, out)
			}
		})
	}
}
