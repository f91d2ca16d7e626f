package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// The screens of the README are what the programs show. A screen stands below "$ COMMAND", or is a whole block.

// screenLimit bounds the wait for a screen.
const screenLimit = system.StartDeadline

// readmeBlocks are the blocks of the README that are in no language.
func readmeBlocks() (blocks []string, err error) {
	b, err := os.ReadFile("../README.md")
	for i, block := range strings.Split("\n"+string(b), "\n```") {
		if language, text, _ := strings.Cut(block, "\n"); i%2 == 1 && language == "" {
			blocks = append(blocks, text+"\n")
		}
	}
	return blocks, err
}

// readmeScreens are the screens by their commands.
func readmeScreens() (map[string]string, error) {
	blocks, err := readmeBlocks()
	screens := map[string]string{}
	for _, block := range blocks {
		for _, part := range strings.Split("\n"+block, "\n$ ")[1:] {
			command, screen, _ := strings.Cut(part, "\n")
			screens[command] = strings.TrimSuffix(screen, "\n") + "\n"
		}
	}
	return screens, err
}

func readmeBlock(ts *testscript.TestScript, first string) string {
	blocks, err := readmeBlocks()
	ts.Check(err)
	i := slices.IndexFunc(blocks, func(b string) bool { return strings.HasPrefix(b, first) })
	if i < 0 {
		ts.Fatalf("the README has no screen that begins with %q", first)
	}
	return blocks[i]
}

// TestReadmeScreensAreCompared: no command in the README with its screen is left out of the script that compares them.
func TestReadmeScreensAreCompared(t *testing.T) {
	script, err := os.ReadFile("testdata/scripts/readme.txtar")
	if err != nil {
		t.Fatal(err)
	}
	screens, err := readmeScreens()
	if err != nil || len(screens) < 4 {
		t.Fatal(err, screens)
	}
	for _, command := range slices.Sorted(maps.Keys(screens)) {
		if !regexp.MustCompile(`(?m)^screen \d+ '` + regexp.QuoteMeta(command) + `'$`).Match(script) {
			t.Errorf("the README shows what %q prints, and readme.txtar does not compare it: add the line screen CODE '%s'", command, command)
		}
	}
}

// screen is "screen CODE COMMAND [FIRST]": types a command of the README on a terminal, and compares what comes and its exit
// code. Where the README leaves the command out, the screen is the block that begins with FIRST.
func screen(ts *testscript.TestScript, _ bool, args []string) {
	screens, err := readmeScreens()
	ts.Check(err)
	want, ok := screens[args[1]]
	if len(args) == 3 {
		want = readmeBlock(ts, args[2])
	} else if !ok {
		ts.Fatalf("the README has no command %q with a screen", args[1])
	}
	p := typed(ts, 80, 24, args[1]+`; echo "exit code $?"`)
	defer p.Stop()
	awaitEnd(ts, args[1], p)
	want += "exit code " + args[0] + "\n"
	got := strings.ReplaceAll(p.Written(), "\r\n", "\n")
	if strings.Contains(args[1], "--stream") && sameWords(masked(want), masked(got)) {
		return // what a stream carries comes while the rest comes
	}
	compareScreens(ts, args[1], want, got)
}

// wholeScreen is "wholescreen COLUMNS FIRST KEYS COMMAND": types a command on a terminal and waits until its whole screen is
// the block of the README that begins with FIRST, with the lines in any order. Then it presses the keys, which end it.
func wholeScreen(ts *testscript.TestScript, _ bool, args []string) {
	columns, err := strconv.Atoi(args[0])
	ts.Check(err)
	keys, err := strconv.Unquote(`"` + args[2] + `"`)
	ts.Check(err)
	p := typed(ts, columns, 60, args[3])
	defer p.Stop()
	want := unordered(readmeBlock(ts, args[1]))
	for end := time.Now().Add(screenLimit); ; time.Sleep(20 * time.Millisecond) {
		shown := unordered(p.Screen.String())
		if shown == want {
			break
		}
		if time.Now().After(end) {
			compareScreens(ts, args[3], want, shown)
		}
	}
	ts.Check(p.Press(keys))
	awaitEnd(ts, args[3], p)
}

// unordered are the lines of a screen in the order of the alphabet.
func unordered(screen string) string {
	lines := strings.FieldsFunc(masked(screen), func(r rune) bool { return r == '\n' })
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func sameWords(a, b string) bool {
	return slices.Equal(slices.Sorted(slices.Values(strings.Fields(a))), slices.Sorted(slices.Values(strings.Fields(b))))
}

// ofMachine are checks of doctor that have another result on another or on a busy machine.
var ofMachine = []string{"clock", "pubnub", "state", "cgroups", "landlock", "systemd"}

// doctorScreen is "doctorscreen PLUGINS STATE": runs doctor beside a daemon with these directories, and compares what it finds with
// the screen in the README, whose lines are broken elsewhere because its paths are shorter.
func doctorScreen(ts *testscript.TestScript, _ bool, args []string) {
	_ = ts.Exec("blocksd", "doctor", "--json", "--plugins", args[0], "--state-dir", args[1]) // what is wrong with the machine does not count
	var found []struct{ Check, State, Detail, Fix string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &found))
	var got, want strings.Builder
	say := func(to *strings.Builder, state, check, rest string) {
		if slices.Contains(ofMachine, check) {
			state, rest = "", ""
		}
		fmt.Fprintf(to, "%s %s %s\n", state, check, strings.TrimSpace(rest))
	}
	for _, f := range found {
		detail := strings.NewReplacer(ts.MkAbs(args[0]), "/usr/local/lib/blocksd/plugins", ts.MkAbs(args[1]), "/var/lib/blocksd").Replace(f.Detail)
		say(&got, f.State, f.Check, detail)
	}
	checks, _, _ := strings.Cut(readmeBlock(ts, "ok    configuration"), "\n\n")
	for line := range strings.Lines(regexp.MustCompile(`\n {7,}`).ReplaceAllString(checks, " ")) {
		words := strings.Fields(line)
		say(&want, words[0], words[1], strings.Join(words[2:], " "))
	}
	compareScreens(ts, "blocksd doctor", want.String(), got.String())
}

// changing is what two runs do not have in common.
var changing = []struct{ pattern, as string }{
	{`task_[a-z0-9]{26}`, "TASK"},
	{`127\.0\.0\.1:\d+`, "127.0.0.1:PORT"},
	{`\(port \d+ is taken\)`, "(on this machine only)"},
	{`(the daemon of blocksd dev at )\S.*`, "${1}SOCKET"},
	{`set -a; \. .*; set \+a`, "set -a; . ENV; set +a"},
	{`(blocksd|version) \d\S*, pid \d+`, "$1 VERSION, pid PID"},
	{`\b[0-9a-f]{12}\b`, "SHA256"},
	{`\d+ +\d+(\.\d)? MiB`, "PID  SIZE"},
	{`\d+(\.\d)? [KMGT]iB`, "SIZE"},
	{`\b(\d+m)?\d+(\.\d+)?(ms|s)\b`, "TIME"},
	// Of top: the rate, and what there was before.
	{`(?m)^\d+\.\d tasks/s.*`, "RATE"},
	{`(?m)^\d+ running, \d+ completed, .*`, "TASKS"},
	// The column of isolation is there if it has room. Columns are as wide as what is in them.
	{`(?m)^(HANDLER .*) ISOLATION `, "$1 "},
	{`(SHA256 +)(user|namespace|landlock|none) `, "$1"},
	{`  +`, "  "},
	{`(?m) +$`, ""},
}

func masked(screen string) string {
	for _, c := range changing {
		screen = regexp.MustCompile(c.pattern).ReplaceAllString(screen, c.as)
	}
	return screen
}

func compareScreens(ts *testscript.TestScript, command, want, got string) {
	if diff := cmp.Diff(masked(want), masked(got)); diff != "" {
		ts.Fatalf("%s does not show what the README says (-README +program): correct the one that is wrong\n%s", command, diff)
	}
}
