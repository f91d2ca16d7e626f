package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/internal/sources"
)

const module = "github.com/blocksd/blocksd/"

// Names of packages of ours are written without the module, and the command at the root is ".". A name stands for the
// package and for everything below it; where names overlap, the longest one counts.

// rooms lists what each part of the project may import of ours. Every package of ours has to be in one of them. Because
// every link of a chain of imports is checked, nothing comes in through a third package either.
var rooms = []struct {
	room string
	may  []string // beside itself
	why  string
}{
	{".", []string{"cli"}, "main only calls the commands"},
	{"cli", []string{"deploy", "client", "sandbox", "daemon", "runtime", "supervisor", "network", "proto", "internal"}, "the commands are on top of everything"},

	{"daemon", []string{"daemon", "runtime", "supervisor", "dispatch", "event", "network", "proto", "internal"}, "the daemon is a provider: it needs neither a consumer nor a network of its own"},
	{"daemon/config", []string{"network/wire", "internal"}, "settings are read before anything runs, and by the commands"},
	{"daemon/roster", []string{"daemon/config", "supervisor", "network/card", "network/wire", "internal"}, "decides what is served, and neither serves nor looks"},
	{"daemon/control", []string{"proto", "internal"}, "the control API knows the daemon by an interface, so that its client stays small"},
	{"daemon/metrics", []string{"event"}, "metrics count events and a snapshot; they know nothing else of the daemon"},
	{"daemon/tracing", []string{"event", "internal"}, "traces are made of what happens, like metrics"},
	{"daemon/runners", []string{"pluginsdk/node", "pluginsdk/python", "supervisor/catalog", "network", "internal"}, "unpacks what the binary carries of other languages"},
	{"daemon/logging", []string{"internal"}, "everything writes to the log"},

	{"runtime", []string{"dispatch", "event", "network", "internal"}, "the runtime must be usable with any dispatcher, also without handler processes"},
	{"runtime/agent", []string{"runtime", "dispatch", "event", "network", "client", "internal"}, "like runtime; it also makes the calls that handlers ask for, as a consumer"},
	{"runtime/calls", []string{"dispatch", "client", "network", "internal"}, "calls other agents as a consumer, for handlers that ask for it"},
	{"supervisor", []string{"supervisor/launch/wire", "dispatch", "event", "network/wire", "network/card", "proto", "internal"}, "the supervisor runs handlers, whoever gives it the tasks, and never reaches the network"},
	{"supervisor/launch/launcher", []string{"supervisor/launch"}, "it has rights that nothing else has, so it is small and knows nothing else"},
	{"supervisor/launch/wire", nil, "the two ends of a socket meet here"},
	{"dispatch", []string{"network/wire", "internal"}, "runtime and supervisor meet here without knowing each other"},

	{"event", nil, "everything may report what happens, so reporting depends on nothing"},

	{"network", []string{"internal"}, "network knows the protocol and nothing of who uses it"},
	{"client", []string{"network", "internal"}, "a consumer needs the network only"},
	{"sandbox", []string{"network/wire", "network/card", "internal"}, "the sandbox is the other side of the wire: sharing a client with it would hide the client's mistakes"},

	{"proto", nil, "a contract depends on nothing"},
	{"pluginsdk", []string{"proto", "internal/savedir"}, "handlers of other people import it; it must stay small and stable"},
	{"pluginsdk/plugintest", []string{"supervisor", "dispatch", "network/card", "network/wire"}, "tests of handlers run them as the daemon does"},
	{"handlers", []string{"pluginsdk"}, "a reference handler uses what every handler has"},
	{"handlers/exec", []string{"pluginsdk", "internal/nearest", "internal/smallfile", "internal/textfile"}, "also reads a file that people write"},
	{"examples", []string{"pluginsdk"}, "an example uses what every handler has"},
	{"handlers/internal", []string{"pluginsdk", "proto"}, "a handler for tests also breaks the contract, by hand"},

	{"internal", nil, "what several packages share depends on none of them"},
	{"internal/testutil", []string{"internal", "sandbox", "network"}, "tests run against the sandbox"},
	{"deploy", []string{"internal"}, "files for packagers, with tests that look at the program"},
	{"scripts", nil, "what the Makefile calls"},
	{"scripts/sbom", []string{"pluginsdk/node", "pluginsdk/python", "internal"}, "also says what the program carries of other languages"},
	{"e2e", []string{"internal"}, "drives the real programs from outside"},
	{"e2e/bench", []string{"e2e/internal", "proto", "internal"}, "also watches a daemon as many clients at once would"},
	{"e2e/bench/sessions", []string{"client"}, "is an application of package client, to be measured"},
}

// forbidden lists what must not be reached, directly or through other packages of any kind, with the reason.
var forbidden = []struct {
	from []string
	to   []string
	// doors are packages of ours that may reach it: what lies behind one is its business.
	doors []string
	// absent: the targets are not in the graph at all, and should stay away.
	absent bool
	why    string
}{
	{from: []string{"."}, to: []string{"e2e", "handlers", "internal/testutil", "internal/sources"}, why: "what tests need does not belong in the program, and handlers are programs of their own"},

	{from: ours, to: []string{"github.com/pubnub/go"}, doors: []string{"network/link"}, why: "network/link hides how PubNub is reached"},
	{from: ours, to: []string{"github.com/hashicorp/go-plugin"}, doors: []string{"supervisor/plug", "pluginsdk"}, why: "supervisor/plug is the one host of go-plugin, pluginsdk the one server"},
	{from: ours, to: []string{"go.etcd.io/bbolt"}, doors: []string{"runtime/journal"}, why: "the journal hides its store"},
	{from: ours, to: []string{"github.com/knadh/koanf"}, doors: []string{"daemon/config"}, why: "daemon/config hides how layers of settings are merged"},
	{from: ours, to: []string{"github.com/fsnotify/fsnotify"}, doors: []string{"supervisor/catalog"}, why: "the catalog hides how directories are watched"},
	{from: ours, to: []string{"github.com/spf13/cobra"}, doors: []string{"cli"}, why: "only the commands know how a command line is read"},
	{from: ours, to: []string{"github.com/sirupsen/logrus", "go.uber.org/zap"}, absent: true, why: "log/slog is the one logger"},
}

// ours are all packages of the project.
var ours = []string{""}

// pure lists packages that decide and do nothing else, with what they still may use. They must not import this themselves,
// nor through another package of ours; what the standard library imports itself does not count.
var (
	pure = []string{"network/wire", "network/card", "runtime/admission", "runtime/lifecycle", "runtime/streams", "runtime/task", "supervisor/unit", "supervisor/rollout", "supervisor/queue"}
	// pureItself lists those that must not import it themselves, but use types of packages that do.
	pureItself = []string{"daemon/roster"}

	impure   = []string{"net", "os", "math/rand", "crypto/rand", "log", "syscall"}
	tolerate = map[string][]string{
		"network/card": {"os", "net", "net/url"}, // reads a card file for its callers; parses addresses
	}
)

func TestImportsOfOurs(t *testing.T) {
	g := load(t)
	for _, p := range g.ours() {
		r := roomOf(p)
		if r < 0 {
			t.Errorf("%s is in no room: add it to rooms, with what it may import and why", p)
			continue
		}
		for _, imported := range g[p].imports {
			if g[imported].ours && roomOf(imported) != r && !below(imported, rooms[r].may) {
				t.Errorf("%s imports %s, and may import only %s: %s", p, imported, strings.Join(rooms[r].may, ", "), rooms[r].why)
			}
		}
	}
}

// roomOf returns the index of the room of a package, or -1.
func roomOf(name string) int {
	found := -1
	for i, r := range rooms {
		if below(name, []string{r.room}) && (found < 0 || len(r.room) > len(rooms[found].room)) {
			found = i
		}
	}
	return found
}

func TestForbiddenImports(t *testing.T) {
	g := load(t)
	for _, rule := range forbidden {
		for _, p := range g.ours() {
			if !below(p, rule.from) || below(p, rule.doors) {
				continue
			}
			if chain := g.chain(p, rule.to, func(name string) bool { return !below(name, rule.doors) }); chain != nil {
				t.Errorf("%s: %s", strings.Join(chain, " imports "), rule.why)
			}
		}
	}
	for _, p := range g.ours() {
		if !below(p, pure) && !below(p, pureItself) {
			continue
		}
		// Further packages of ours are walked through, others are not.
		chain := g.chain(p, impure, func(name string) bool { return g[name].ours && !below(p, pureItself) && !below(name, pure) }, tolerate[p]...)
		if chain != nil {
			t.Errorf("%s: it decides only: no I/O, no randomness, no log", strings.Join(chain, " imports "))
		}
	}
}

// TestRulesNameWhatExists: a rule about something that was renamed would hold nothing back and nobody would notice.
func TestRulesNameWhatExists(t *testing.T) {
	g := load(t)
	var names []string
	for _, r := range rooms {
		names = append(append(names, r.room), r.may...)
	}
	for _, rule := range forbidden {
		names = append(append(names, rule.doors...), rule.from...)
		if !rule.absent {
			names = append(names, rule.to...)
		}
		for _, door := range rule.doors {
			if g.chain(door, rule.to, func(string) bool { return true }) == nil {
				t.Errorf("%s may reach %s and does not: take it off the rule", door, strings.Join(rule.to, ", "))
			}
		}
	}
	names = slices.Concat(names, pure, pureItself, impure)
	for p, allowed := range tolerate {
		names = append(append(names, p), allowed...)
		for _, a := range allowed {
			if g[p] == nil || !slices.Contains(g[p].imports, a) {
				t.Errorf("%s may import %s and does not: take it off tolerate", p, a)
			}
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(g.all(), func(p string) bool { return below(p, []string{name}) }) {
			t.Errorf("a rule names %q, which is no package and no directory of packages: rename or remove it", name)
		}
	}
}

// TestRulesHold: each kind of rule finds what it should in a small graph.
func TestRulesHold(t *testing.T) {
	g := graph{
		"daemon":         {ours: true, imports: []string{"runtime/agent", "other.org/kit"}},
		"runtime/agent":  {ours: true, imports: []string{"client"}},
		"client":         {ours: true},
		"other.org/kit":  {imports: []string{"other.org/base"}},
		"other.org/base": {},
	}
	all := func(string) bool { return true }
	if got := strings.Join(g.chain("daemon", []string{"other.org/base"}, all), " "); got != "daemon other.org/kit other.org/base" {
		t.Errorf("through a third package: %q", got)
	}
	if got := strings.Join(g.chain("daemon", []string{"client"}, all), " "); got != "daemon runtime/agent client" {
		t.Errorf("through one of ours: %q", got)
	}
	if got := g.chain("daemon", []string{"client"}, func(name string) bool { return name != "runtime/agent" }); got != nil {
		t.Errorf("through a door: %q", got)
	}
	if got := g.chain("client", []string{"client"}, all); got != nil {
		t.Errorf("itself: %q", got)
	}
	if below("networks", []string{"network"}) || !below("network/wire", []string{"network"}) || below("cli", []string{"."}) || !below("fmt", ours) {
		t.Error("below is wrong")
	}
	if rooms[roomOf("runtime/agent")].room != "runtime/agent" || rooms[roomOf("runtime/task")].room != "runtime" || roomOf("fmt") >= 0 {
		t.Error("roomOf is wrong")
	}
}

// TestLeakChecks: every package with tests looks for goroutines that outlive them.
func TestLeakChecks(t *testing.T) {
	g := load(t)
	for _, name := range g.ours() {
		if p := g[name]; name != "." && p.tested && !p.leakChecked {
			t.Errorf("the tests of %s do not use goleak: add a TestMain with goleak.VerifyTestMain", name)
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

// graph has every package that ours need, by name.
type graph map[string]*node

type node struct {
	ours                bool
	imports             []string // not those of tests
	tested, leakChecked bool
}

func (g graph) all() []string {
	var names []string
	for name := range g {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (g graph) ours() []string {
	return slices.DeleteFunc(g.all(), func(name string) bool { return !g[name].ours })
}

// chain returns the shortest chain of imports from a package to one of the targets, or nil. It goes on only behind packages
// for which through is true.
func (g graph) chain(from string, to []string, through func(name string) bool, except ...string) []string {
	seen := map[string]bool{from: true}
	for queue := [][]string{{from}}; len(queue) > 0; queue = queue[1:] {
		last := queue[0][len(queue[0])-1]
		if g[last] == nil || last != from && !through(last) {
			continue
		}
		for _, imported := range g[last].imports {
			if seen[imported] || slices.Contains(except, imported) {
				continue
			}
			seen[imported] = true
			next := append(slices.Clone(queue[0]), imported)
			if below(imported, to) {
				return next
			}
			queue = append(queue, next)
		}
	}
	return nil
}

// load asks the go command for all packages of ours and what they need.
func load(t *testing.T) graph {
	t.Helper()
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,TestImports,XTestImports,TestGoFiles,XTestGoFiles", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	g := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath                                                    string
			Imports, TestImports, XTestImports, TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		n := &node{
			ours:        strings.HasPrefix(p.ImportPath+"/", module),
			tested:      len(p.TestGoFiles)+len(p.XTestGoFiles) > 0,
			leakChecked: slices.Contains(append(p.TestImports, p.XTestImports...), "go.uber.org/goleak"),
		}
		for _, imported := range p.Imports {
			n.imports = append(n.imports, short(imported))
		}
		g[short(p.ImportPath)] = n
	}
}

// short is the name of a package in the rules.
func short(path string) string {
	if path+"/" == module {
		return "."
	}
	return strings.TrimPrefix(path, module)
}
