package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/blocksd/blocksd/"

// forbidden lists imports that would turn the architecture around, each with the reason. A path stands for itself and
// everything below it; "" stands for all of ours.
var forbidden = []struct {
	from    []string
	to      []string // packages of ours
	outside []string // packages of others
	except  []string // importers that may
	why     string
}{
	{
		from: []string{"network"}, to: []string{"runtime", "supervisor", "daemon", "client", "sandbox", "pluginsdk", "proto"},
		why: "network knows the protocol and nothing of who uses it",
	},
	{
		from: []string{"runtime"}, to: []string{"supervisor", "daemon", "client", "sandbox", "pluginsdk", "proto"},
		why: "the runtime must be usable with any dispatcher, also without handler processes",
	},
	{
		from: []string{"supervisor"}, to: []string{"runtime", "daemon", "client", "sandbox", "pluginsdk"},
		why: "the supervisor runs handlers, whatever hands it the tasks",
	},
	{
		from: []string{"supervisor"}, to: []string{"network/backend", "network/link"},
		why: "a handler and its supervisor never reach the network; the runtime does",
	},
	{
		from: []string{"network/wire", "network/card", "runtime/task", "supervisor/unit"}, outside: []string{"net", "os", "math/rand", "crypto/rand", "log"},
		except: []string{"network/card"}, // reads a card file for its callers
		why:    "these are pure: no I/O, no randomness, no log",
	},
	{
		from: []string{"pluginsdk"}, to: []string{"network", "runtime", "supervisor", "daemon", "client", "sandbox"},
		why: "handlers of other people import it; it must stay small and stable",
	},
	{
		from: []string{"handlers"}, to: []string{"network", "runtime", "supervisor", "daemon", "client", "sandbox"},
		why: "a reference handler uses what every handler has",
	},
	{
		from: []string{"client"}, to: []string{"runtime", "supervisor", "daemon", "sandbox", "pluginsdk", "proto"},
		why: "a consumer needs the network only",
	},
	{
		from: []string{"sandbox"}, to: []string{"runtime", "supervisor", "daemon", "client", "pluginsdk", "proto", "network/backend", "network/link"},
		why: "the sandbox is the other side of the wire: sharing a client with it would hide the client's mistakes",
	},
	{
		from: []string{""}, outside: []string{"github.com/pubnub/go"}, except: []string{"network/link"},
		why: "network/link hides how PubNub is reached",
	},
	{
		from: []string{""}, outside: []string{"github.com/hashicorp/go-plugin"}, except: []string{"supervisor/plug", "supervisor/launch", "pluginsdk"},
		why: "supervisor/plug is the one host of go-plugin (launch implements its Runner), pluginsdk the one server",
	},
	{
		from: []string{""}, outside: []string{"go.etcd.io/bbolt"}, except: []string{"runtime/journal"},
		why: "the journal hides its store",
	},
	{
		from: []string{""}, outside: []string{"github.com/sirupsen/logrus", "go.uber.org/zap"},
		why: "log/slog is the one logger",
	},
}

func TestForbiddenImports(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.name, "e2e") {
			continue // drives the whole system
		}
		for _, rule := range forbidden {
			if !below(p.name, rule.from) || below(p.name, rule.except) {
				continue
			}
			for _, imported := range p.Imports {
				name, ours := strings.CutPrefix(imported, module)
				if ours && below(name, rule.to) || !ours && below(name, rule.outside) {
					t.Errorf("%s imports %s: %s", p.name, name, rule.why)
				}
			}
		}
	}
}

// TestLeakChecks says that every package with tests looks for goroutines that outlive them.
func TestLeakChecks(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.TestGoFiles)+len(p.XTestGoFiles) == 0 || p.name == module || p.name == "" {
			continue
		}
		found := false
		for _, imported := range append(p.TestImports, p.XTestImports...) {
			found = found || imported == "go.uber.org/goleak"
		}
		if !found {
			t.Errorf("the tests of %s do not use goleak: add a TestMain with goleak.VerifyTestMain", p.name)
		}
	}
}

// below reports whether name is one of the paths or below one; "" is above all.
func below(name string, paths []string) bool {
	for _, p := range paths {
		if p == "" || name == p || strings.HasPrefix(name, p+"/") {
			return true
		}
	}
	return false
}

type pkg struct {
	name string

	ImportPath                                                    string
	Imports, TestImports, XTestImports, TestGoFiles, XTestGoFiles []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,TestGoFiles,XTestGoFiles", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		p.name = strings.TrimPrefix(p.ImportPath, module)
		if p.ImportPath+"/" == module {
			p.name = ""
		}
		all = append(all, p)
	}
}
