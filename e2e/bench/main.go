// Command bench measures the whole system, as ratios in one run: the same load, through the same sandbox and a raw HTTP
// driver, first to Blocks' own SDK as provider (where `make interop` has installed it), then to blocksd. Network,
// provider and driver share the machine. Absolute numbers move with the machine; the ratios are what to watch.
//
// usage: bench -bin DIR [-tasks N] [-only PART | -versus DIR]
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "directory that make build filled")
	tasks := flag.Int("tasks", 4000, "request tasks to send to blocksd with 16 in flight")
	only := flag.String("only", "", "measure one part only: tasks, sessions, streams, languages or watchers; tasks is without the SDK")
	versus := flag.String("versus", "", "measure only the tasks, against the build in this directory")
	flag.Parse()
	debug.SetGCPercent(800) // the driver shares the machine with what is measured
	if err := run(*bin, *versus, *tasks, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(bin, versus string, tasks int, only string) error {
	work, err := os.MkdirTemp("", "blocksd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	if versus != "" {
		return runVersus(versus, bin, work)
	}
	parts := []struct {
		name string
		run  func() error
	}{
		{"tasks", func() error { return runTasks(bin, work, tasks, only == "") }},
		{"sessions", func() error { return runSessions(bin, work) }},
		{"streams", func() error { return runStreams(bin, work) }},
		{"languages", func() error { return measureLanguages(bin, filepath.Join(work, "languages")) }},
		{"watchers", func() error { return runWatchers(bin, work) }},
	}
	found := only == ""
	for _, p := range parts {
		if only != "" && p.name != only {
			continue
		}
		found = true
		if err := p.run(); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("there is no part %q to measure", only)
	}
	return nil
}

// runTasks measures tasks, those of the SDK too if it is beside.
func runTasks(bin, work string, tasks int, beside bool) error {
	if err := preparePlugins(bin, filepath.Join(work, "plugins")); err != nil {
		return err
	}
	var sdk *result
	if beside {
		var err error
		if sdk, err = measureSDK(bin, work); err != nil {
			return fmt.Errorf("measure the Blocks SDK: %w", err)
		}
	}
	ours, err := measureDaemon(bin, work, tasks)
	if err != nil {
		return fmt.Errorf("measure blocksd: %w", err)
	}
	report(sdk, ours)
	return nil
}

// runWatchers measures what watchers of the events cost the tasks.
func runWatchers(bin, work string) error {
	watched, err := measureWatchers(bin, filepath.Join(work, "watched"))
	if err != nil {
		return fmt.Errorf("measure the effect of watchers: %w", err)
	}
	watched.report()
	return nil
}

// runSessions measures what it costs to follow tasks.
func runSessions(bin, work string) error {
	all, err := measureSessions(bin, filepath.Join(work, "sessions"))
	if err != nil {
		return fmt.Errorf("measure sessions: %w", err)
	}
	reportSessions(all)
	return nil
}

// runStreams measures what streams cost, and how fast they are.
func runStreams(bin, work string) error {
	costs, err := measureStreams(bin, filepath.Join(work, "streams"))
	if err != nil {
		return fmt.Errorf("measure the streams of blocksd: %w", err)
	}
	costs.report()
	theirs, ours, large, err := measureSpeeds(bin, filepath.Join(work, "speed"))
	if err != nil {
		return fmt.Errorf("measure the speed of streams: %w", err)
	}
	reportSpeeds(theirs, ours, large)
	return nil
}

// result is what one provider achieved.
type result struct {
	firstPublish []time.Duration // request stored → running stored, 1 in flight
	terminal16   []time.Duration // request sent → terminal stored, 16 in flight
	perSecond    float64         // tasks ended per second, 16 in flight
	cpuPerTask   time.Duration   // of the provider process alone
	others       time.Duration   // of everything else that runs: network, handler and driver
	base, rss    int64           // bytes before and after the load
	idle         float64         // requests per second and agent, after the load

	burst   time.Duration   // 200 submitted at once: first request stored → last running stored
	perTask int64           // bytes more for each further task in flight
	cancel  []time.Duration // cancel requested → terminal stored, an upper bound of when the handler was told

	// Only of blocksd.
	crash []time.Duration // process killed → terminal stored, 64 in flight
	// With 10,000 in flight:
	multitude int64           // bytes of the daemon and the handler
	daemon    int64           // those of the daemon
	status    []time.Duration // run time of `blocksd status`
}

func report(sdk *result, ours *result) {
	row := func(what string, unit string, budget string, theirs, our float64, higherIsBetter bool) {
		ratio := "(not measured beside the SDK)"
		left := "-"
		if sdk != nil {
			left = fmt.Sprintf("%.4g", theirs)
			r := theirs / our
			if higherIsBetter {
				r = our / theirs
			}
			ratio = fmt.Sprintf("%.1f× better than the SDK", r)
		}
		fmt.Printf("%-51s %10s %10.4g %-8s budget %-14s %s\n", what, left, our, unit, budget, ratio)
	}
	var t result
	if sdk != nil {
		t = *sdk
	}
	fmt.Printf("%-51s %10s %10s\n", "", "SDK", "blocksd")
	row("request stored → first publish, p50, 1 in flight", "ms", "≤ 0.8", ms(quantile(t.firstPublish, .50)), ms(quantile(ours.firstPublish, .50)), false)
	row("request stored → first publish, p99, 1 in flight", "ms", "≤ 2", ms(quantile(t.firstPublish, .99)), ms(quantile(ours.firstPublish, .99)), false)
	row("request sent → terminal, p50, 16 in flight", "ms", "≤ 5", ms(quantile(t.terminal16, .50)), ms(quantile(ours.terminal16, .50)), false)
	row("request tasks end to end, 16 in flight", "1/s", "≥ 2500, ≥ 60×", t.perSecond, ours.perSecond, true)
	row("CPU of the provider per task", "ms", "≤ 0.30", ms(t.cpuPerTask), ms(ours.cpuPerTask), false)
	row("CPU of network, handler and driver per task", "ms", "", ms(t.others), ms(ours.others), false)
	row("resident memory of the provider before the load", "MiB", "≤ 35", float64(t.base)/(1<<20), float64(ours.base)/(1<<20), false)
	row("resident memory of the provider after the load", "MiB", "", float64(t.rss)/(1<<20), float64(ours.rss)/(1<<20), false)
	row("idle requests per agent after the load", "1/s", "≤ 0.12", t.idle, ours.idle, false)
	row("200 tasks submitted at once: all running after", "ms", "≤ 60", ms(t.burst), ms(ours.burst), false)
	row("memory per further task in flight, of 2000 (SDK 200)", "KiB", "≤ 32", float64(t.perTask)/1024, float64(ours.perTask)/1024, false)
	row("cancel stored → terminal stored, p50", "ms", "", ms(quantile(t.cancel, .50)), ms(quantile(ours.cancel, .50)), false)
	row("cancel stored → terminal stored, p99", "ms", "≤ 5 (told)", ms(quantile(t.cancel, .99)), ms(quantile(ours.cancel, .99)), false)
	alone := func(what string, unit string, budget string, our float64) {
		fmt.Printf("%-51s %10s %10.4g %-8s budget %s\n", what, "", our, unit, budget)
	}
	alone("process killed → terminals of its tasks stored, p99", "ms", "≤ 10", ms(quantile(ours.crash, .99)))
	alone("10000 in flight: memory of daemon and handler", "MiB", "< 512", float64(ours.multitude)/(1<<20))
	alone("10000 in flight: memory of the daemon", "MiB", "", float64(ours.daemon)/(1<<20))
	alone("10000 in flight: blocksd status, p50", "ms", "≤ 10", ms(quantile(ours.status, .50)))
	alone("10000 in flight: blocksd status, p99", "ms", "", ms(quantile(ours.status, .99)))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// measureSDK returns nil when the SDK is not installed.
func measureSDK(bin, work string) (*result, error) {
	runner, installed := installedRunner()
	if !installed {
		return nil, nil
	}
	net, err := startNetwork(bin, work, "sdk.env")
	if err != nil {
		return nil, err
	}
	defer net.stop()
	echo, err := startSDK(net, runner, work, "echo", "echo_handler.py", 32)
	if err != nil {
		return nil, err
	}
	r, err := measure(net, echo, 1, 60, 200)
	echo.stop()
	if err != nil {
		return nil, err
	}
	sleeper, err := startSDK(net, runner, work, "sleeper", "sleep_handler.py", 2*burst)
	if err != nil {
		return nil, err
	}
	defer sleeper.kill() // it has tasks that would take an hour
	if _, err := net.follow1("sleeper", "1ms"); err != nil {
		return nil, err
	}
	before := sleeper.rss()
	all, seen, err := measureBurst(net, r)
	if err != nil {
		return nil, err
	}
	r.perTask = (sleeper.rss() - before) / burst
	r.cancel, err = net.end(all, seen)
	return r, err
}

// installedRunner is the SDK's own provider, where `make interop` has installed it.
func installedRunner() (path string, ok bool) {
	path, err := filepath.Abs("e2e/interop/.cache/blocks-1.0.23/bin/blocks-run")
	if err == nil {
		_, err = os.Stat(path)
	}
	return path, err == nil
}

// startSDK has the SDK serve an agent whose card is there, with a handler in Python.
func startSDK(net *network, runner, work, agent, handler string, concurrency int) (*process, error) {
	scripts, err := filepath.Abs("e2e/interop/blocks")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(work, "sdk-"+agent)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	var card map[string]any
	b, err := os.ReadFile(filepath.Join(work, "plugins", agent+".agent-card.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &card); err != nil {
		return nil, err
	}
	settings := card["runtime"].(map[string]any)
	settings["handler"], settings["handlerExport"], settings["concurrency"] = "./"+handler, "handler", concurrency
	if b, err = json.Marshal(card); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "agent-card.json"), b, 0o644); err != nil {
		return nil, err
	}
	if b, err = os.ReadFile(filepath.Join(scripts, handler)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, handler), b, 0o644); err != nil {
		return nil, err
	}
	return start(dir, append(net.env, "PUBNUB_REQUEST_HANDLER=loopback.LoopbackHandler", "PYTHONPATH="+scripts), runner)
}

func measureDaemon(bin, work string, tasks int) (*result, error) {
	net, err := startNetwork(bin, work, "blocksd.env")
	if err != nil {
		return nil, err
	}
	defer net.stop()
	plugins := filepath.Join(work, "plugins")
	state := filepath.Join(work, "state")
	d := &daemon{blocksd: filepath.Join(bin, "blocksd"), socket: filepath.Join(state, "s")}
	d.process, err = start(work, append(net.env, "LOG_LEVEL=warn"), d.blocksd, "run", "--plugins", plugins, "--state-dir", state, "--socket", d.socket)
	if err != nil {
		return nil, err
	}
	defer d.kill() // it has tasks that would take an hour
	r, err := measure(net, d.process, 2, 300, tasks)
	if err != nil {
		return nil, err
	}
	if err := measureCrowd(net, d, r); err != nil {
		return nil, fmt.Errorf("%w; the daemon said: %s", err, d.output)
	}
	return r, nil
}

// follow1 sends one task and waits for its end.
func (n *network) follow1(agent, text string) (times, error) {
	s, err := n.submit(agent, text)
	if err != nil {
		return times{}, err
	}
	var seen times
	return seen, n.follow(&s, time.Minute, &seen, func() bool { return seen.terminal != 0 })
}

// measure sends single tasks one after the other, then many with 16 in flight, to a provider of so many agents.
func measure(net *network, provider *process, agents, single, many int) (*result, error) {
	r := &result{}
	if _, err := net.task(60 * time.Second); err != nil { // waits until the provider serves
		return nil, err
	}
	for range single {
		t, err := net.task(30 * time.Second)
		if err != nil {
			return nil, err
		}
		r.firstPublish = append(r.firstPublish, t.running-t.request)
	}
	r.base = provider.rss()
	others := func() (all time.Duration, err error) {
		for _, pid := range append(provider.handlers(), net.cmd.Process.Pid, os.Getpid()) {
			used, err := cpu(pid)
			if err != nil {
				return 0, err
			}
			all += used
		}
		return all, nil
	}
	before, err := provider.cpu()
	if err != nil {
		return nil, err
	}
	othersBefore, err := others()
	if err != nil {
		return nil, err
	}
	var (
		mu     sync.Mutex
		failed error
		next   atomic.Int64
		wg     sync.WaitGroup
	)
	began := time.Now()
	for range 16 {
		wg.Go(func() {
			for next.Add(1) <= int64(many) {
				t, err := net.result(60 * time.Second)
				mu.Lock()
				if err != nil {
					failed = errors.Join(failed, err)
				}
				r.terminal16 = append(r.terminal16, t.terminal-t.request)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	r.perSecond = float64(many) / time.Since(began).Seconds()
	if failed != nil {
		return nil, failed
	}
	after, err := provider.cpu()
	if err != nil {
		return nil, err
	}
	othersAfter, err := others()
	if err != nil {
		return nil, err
	}
	r.cpuPerTask, r.others = (after-before)/time.Duration(many), (othersAfter-othersBefore)/time.Duration(many)
	r.rss = provider.rss()
	r.idle, err = net.idle(agents)
	return r, err
}
