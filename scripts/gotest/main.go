// Command gotest runs go test on the packages given, with go vet's checks, and shows how far it is: a line for each package
// as it ends, with the number of packages and the seconds so far, and a line every while when nothing ends. It shows the
// output of tests that failed, the reason of each skip and, last of all, what each failed test said first. With CI set a
// skip is a failure, unless its reason is in scripts/machine-skips.
//
// -note FILE writes down which tests skipped, and -only FILE runs those and no others: CI runs all tests as an ordinary user,
// and as root what that user may not do.
//
// Packages that take long start first, and more of them run at once than there are cores, because most of their time is
// waiting.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	module = "github.com/blocksd/blocksd"
	// atOnce is how many packages build or run at the same time on two cores.
	atOnce = "4"
	// timeout of one package.
	timeout = "25m"
	// silence after which a line says that the tests go on.
	silence = 15 * time.Second
)

// slow are the packages that take longest, longest first. One that is missing here only makes the run longer.
var slow = []string{"e2e/interop/blocks", "e2e", "runtime/agent", "e2e/interop/pubnub", "runtime/journal", "supervisor", "daemon", "supervisor/plug", "cli"}

func main() {
	race := flag.Bool("race", false, "use the race detector")
	allowed := flag.String("skips", "scripts/machine-skips", "the file with the reasons for which a test may skip in CI")
	note := flag.String("note", "", "write down which tests skipped")
	only := flag.String("only", "", "run the tests that another run noted, instead of packages")
	flag.Parse()
	syscall.Umask(0o022) // handlers that others may write to are refused, and tests make many
	ok, err := run(*race, *allowed, *note, *only, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(race bool, allowed, note, only string, patterns []string) (ok bool, err error) {
	args := []string{"test", "-json", "-vet=all", "-p", atOnce, "-timeout", timeout}
	if race {
		args = append(args, "-race")
	}
	var wanted []aTest
	if only != "" {
		if wanted, err = readTests(only); err != nil {
			return false, err
		}
		if len(wanted) == 0 {
			fmt.Println("no test skipped")
			return true, nil
		}
		patterns = packages(wanted)
		args = append(args, "-run", pattern(wanted))
	}
	listed, err := list(patterns)
	if err != nil {
		return false, err
	}
	cmd := exec.Command("go", append(args, listed...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	r := newReport(os.Stdout, len(listed))
	stop := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() { r.tick(stop) })
	r.read(events)
	close(stop)
	ticking.Wait()
	failed := cmd.Wait() != nil
	may, err := reasons(allowed)
	if err != nil {
		return false, err
	}
	if os.Geteuid() == 0 {
		may = slices.DeleteFunc(may, func(reason string) bool { return strings.Contains(reason, notRoot) })
	}
	refused := r.close(may, os.Getenv("CI") != "")
	for _, t := range r.missing(wanted) {
		fmt.Printf("%s of %s was to run and did not\n", t.Name, t.Package)
		refused = true
	}
	if note != "" {
		err = r.write(note)
	}
	return !failed && !refused, err
}

// list returns the packages that the patterns match, slow ones first.
func list(patterns []string) ([]string, error) {
	cmd := exec.Command("go", append([]string{"list"}, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages %s: %w", strings.Join(patterns, " "), err)
	}
	packages := strings.Fields(string(out))
	slices.SortStableFunc(packages, func(a, b string) int { return rank(a) - rank(b) })
	return packages, nil
}

func rank(name string) int {
	if i := slices.Index(slow, strings.TrimPrefix(name, module+"/")); i >= 0 {
		return i
	}
	return len(slow)
}

// reasons reads a file with a reason a line.
func reasons(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all, nil
}

// event is one line of go test -json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// report turns events into lines.
type report struct {
	begun time.Time
	total int

	mu                      sync.Mutex // tick runs beside read
	out                     io.Writer
	said                    time.Time // when the last line was written
	done                    int
	running                 []string
	lines                   map[string][]string            // output to show of packages that run, if they fail
	tests                   map[string]map[string][]string // output of tests that run, by package and test
	skips                   []string
	skippedTests            []aTest
	ended                   map[aTest]bool
	longest                 []timed
	failures                []failure
	passed, failed, skipped int
}

func newReport(out io.Writer, total int) *report {
	now := time.Now()
	return &report{begun: now, said: now, out: out, total: total, lines: map[string][]string{}, tests: map[string]map[string][]string{}, ended: map[aTest]bool{}}
}

// read takes events until there are no more.
func (r *report) read(events io.Reader) {
	in := bufio.NewReader(events)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			r.mu.Lock()
			if json.Unmarshal(line, &e) != nil {
				e = event{Action: "build-output", Output: string(line)}
			}
			r.takeLocked(e)
			r.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func (r *report) takeLocked(e event) {
	switch e.Action {
	case "start":
		r.running = append(r.running, strings.TrimPrefix(e.Package, module+"/"))
		r.tests[e.Package] = map[string][]string{}
	case "build-output":
		r.sayLocked(e.Output)
	case "output":
		if running := r.tests[e.Package]; e.Test != "" && running != nil {
			running[e.Test] = append(running[e.Test], e.Output)
		} else {
			r.lines[e.Package] = append(r.lines[e.Package], e.Output)
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endLocked(e)
			return
		}
		switch e.Action {
		case "pass":
			r.passed++
		case "fail":
			r.failed++
			r.lines[e.Package] = append(r.lines[e.Package], r.tests[e.Package][e.Test]...)
			r.failures = append(r.failures, failureOf(aTest{e.Package, e.Test}, r.tests[e.Package][e.Test]))
		case "skip":
			r.skipped++
			r.skips = append(r.skips, reason(r.tests[e.Package][e.Test]))
			r.skippedTests = append(r.skippedTests, aTest{e.Package, e.Test})
		}
		r.ended[aTest{e.Package, e.Test}] = true
		r.timeLocked(e)
		delete(r.tests[e.Package], e.Test)
	}
}

// endLocked shows the end of a package.
func (r *report) endLocked(e event) {
	r.done++
	r.running = slices.DeleteFunc(r.running, func(p string) bool { return p == strings.TrimPrefix(e.Package, module+"/") })
	lines := r.lines[e.Package]
	for _, test := range slices.Sorted(maps.Keys(r.tests[e.Package])) { // the end of the process cut them off
		lines = append(lines, r.tests[e.Package][test]...)
		if f := failureOf(aTest{e.Package, test}, r.tests[e.Package][test]); len(f.lines) > 0 { // others only ran beside it
			r.failures = append(r.failures, f)
		}
	}
	delete(r.lines, e.Package)
	delete(r.tests, e.Package)
	if e.Action == "fail" {
		for _, line := range lines {
			if !noise(line) {
				r.sayLocked(line)
			}
		}
	}
	closing := ""
	for _, line := range lines {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "FAIL\t") {
			closing = strings.TrimSpace(line)
		}
	}
	switch {
	case e.Action == "fail":
		r.sayLocked(fmt.Sprintf("%s failed\t%s\n", e.Package, r.progress()))
	case closing != "":
		r.sayLocked(closing + "\t" + r.progress() + "\n")
	}
}

// noise is what a test prints although nothing is wrong.
func noise(line string) bool {
	line = strings.TrimSpace(line)
	for _, prefix := range []string{"=== RUN", "=== PAUSE", "=== CONT", "=== NAME", "--- PASS"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// reason is what a test said when it skipped, behind the name of its file.
func reason(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if place, text, found := strings.Cut(strings.TrimSpace(line), ": "); found && strings.Contains(place, ".go:") {
			return text
		}
	}
	return "no reason given"
}

func (r *report) progress() string {
	return fmt.Sprintf("[%d of %d packages, %.0f s]", r.done, r.total, time.Since(r.begun).Seconds())
}

func (r *report) sayLocked(line string) {
	r.said = time.Now()
	fmt.Fprint(r.out, line)
}

// tick says from time to time that the tests go on.
func (r *report) tick(stop <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		if time.Since(r.said) >= silence {
			now := "compiling"
			if len(r.running) > 0 {
				now = "running " + strings.Join(r.running, ", ")
			}
			r.sayLocked(fmt.Sprintf("%s %d tests so far, %s\n", r.progress(), r.passed+r.failed+r.skipped, now))
		}
		r.mu.Unlock()
	}
}

// close prints the reasons of the skips and the sum of all. It reports whether a test skipped for a reason that does not
// count in CI.
func (r *report) close(allowed []string, ci bool) (refused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.skips)
	for _, s := range slices.Compact(r.skips) {
		r.sayLocked("skipped: " + s + "\n")
		if ci && !slices.Contains(allowed, s) {
			r.sayLocked("  this machine must not skip for that reason: see scripts/machine-skips\n")
			refused = true
		}
	}
	for _, t := range r.longest {
		r.sayLocked(fmt.Sprintf("%3.0f s for %s of %s\n", t.seconds, t.Name, strings.TrimPrefix(t.Package, module+"/")))
	}
	r.sayLocked(fmt.Sprintf("%d of %d packages in %.0f s\n", r.done, r.total, time.Since(r.begun).Seconds()))
	r.sayLocked(fmt.Sprintf("tests: %d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped))
	r.sayFailuresLocked()
	return refused
}
