package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How many tasks are in flight at once; crowdLimit is the concurrency of the sleeper while it is measured.
const (
	burst      = 200
	crowd      = 2_000
	multitude  = 10_000
	crowdLimit = multitude + 240
)

// crowdTask is how long a task of the sleeper lasts that is to stay in flight.
const crowdTask = "1h"

// measureCrowd measures blocksd with many tasks in flight: 200 that are submitted at once, some whose process is killed,
// 2,000, and 10,000.
func measureCrowd(net *network, d *daemon, r *result) error {
	if _, err := net.follow1("sleeper", "1ms"); err != nil {
		return err
	}
	all, seen, err := measureBurst(net, r)
	if err != nil {
		return err
	}
	if r.cancel, err = net.end(all, seen); err != nil {
		return err
	}
	for range 3 {
		if err := measureCrash(net, d, r); err != nil {
			return fmt.Errorf("kill the sleeper: %w", err)
		}
		// Its agent is back, and its process: tasks that wait for a process do not fail when that is killed; and what waits in
		// the network for an instance comes at once, more than can be caught up with.
		if _, err := net.follow1("sleeper", "1ms"); err != nil {
			return err
		}
	}

	before := d.rss()
	if all, seen, err = net.running(crowd, false); err != nil {
		return err
	}
	r.perTask = (d.rss() - before) / crowd
	underLoad, err := net.end(all[:burst], seen[:burst]) // of the others
	if err != nil {
		return err
	}
	r.cancel = append(r.cancel, underLoad...)

	if _, _, err = net.running(multitude-crowd+burst, false); err != nil {
		return err
	}
	s, err := d.status()
	if err != nil {
		return err
	}
	if s.Tasks.Running != multitude {
		return fmt.Errorf("%d tasks are in flight instead of %d", s.Tasks.Running, multitude)
	}
	for _, h := range s.Handlers {
		for _, p := range h.Processes {
			r.multitude += p.RSSBytes
		}
	}
	r.daemon = d.rss()
	r.multitude += r.daemon
	for range 20 {
		began := time.Now()
		if _, err := d.command("status"); err != nil {
			return err
		}
		r.status = append(r.status, time.Since(began))
	}
	return nil
}

// measureBurst submits 200 tasks at once and waits until all run.
func measureBurst(net *network, r *result) (all []sent, seen []times, err error) {
	if all, seen, err = net.running(burst, true); err != nil {
		return nil, nil, err
	}
	var first, last time.Duration
	for i, s := range seen {
		if i == 0 || s.request < first {
			first = s.request
		}
		last = max(last, s.running)
	}
	r.burst = last - first
	return all, seen, nil
}

// measureCrash kills the process of the sleeper while it works.
func measureCrash(net *network, d *daemon, r *result) error {
	const tasks = 64
	all, seen, err := net.running(tasks, true)
	if err != nil {
		return err
	}
	for i := range all { // a task that has published nothing would be repeated
		if err := net.follow(&all[i], time.Minute, &seen[i], func() bool { return seen[i].said != 0 }); err != nil {
			return err
		}
	}
	pid, err := d.handler("sleeper")
	if err != nil {
		return err
	}
	killed, err := net.now()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for i := range all {
		err := net.follow(&all[i], time.Minute, &seen[i], func() bool { return seen[i].terminal != 0 })
		if failed := (*failedError)(nil); !errors.As(err, &failed) {
			return fmt.Errorf("task %s did not fail: %w", all[i].id, err)
		}
		r.crash = append(r.crash, seen[i].terminal-killed)
	}
	return nil
}

// running submits tasks to the sleeper, and returns when all of them run. Unless they are submitted at once, each of 64
// lanes waits until its task runs before it submits the next: of a channel no more than 100 messages can be caught up
// with, so a provider that is slower than its consumers for a moment would miss tasks.
func (n *network) running(tasks int, atOnce bool) (all []sent, seen []times, err error) {
	const lanes = 64
	all, seen = make([]sent, tasks), make([]times, tasks)
	errs := make([]error, tasks)
	var wg sync.WaitGroup
	await := func(i int) error {
		return n.follow(&all[i], time.Minute, &seen[i], func() bool { return seen[i].running != 0 })
	}
	for lane := range lanes {
		wg.Go(func() {
			for i := lane; i < tasks; i += lanes {
				if all[i], errs[i] = n.submit("sleeper", crowdTask); errs[i] != nil {
					return
				}
				if !atOnce {
					errs[i] = await(i)
				}
			}
			for i := lane; i < tasks && atOnce; i += lanes {
				errs[i] = await(i)
			}
		})
	}
	wg.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > 0 {
		err = fmt.Errorf("%d of %d tasks do not run, the first because of: %w", len(errs), tasks, errs[0])
	}
	return all, seen, err
}

// end cancels tasks one after the other, and returns how long that took each.
func (n *network) end(all []sent, seen []times) ([]time.Duration, error) {
	var took []time.Duration
	for i := range all {
		if err := n.cancel(all[i]); err != nil {
			return nil, err
		}
		if err := n.follow(&all[i], time.Minute, &seen[i], func() bool { return seen[i].terminal != 0 }); err != nil {
			return nil, err
		}
		took = append(took, seen[i].terminal-seen[i].cancel)
	}
	return took, nil
}

// daemon is a blocksd with what drives it.
type daemon struct {
	*process
	blocksd, socket string
}

// command runs a command of blocksd against the daemon.
func (d *daemon) command(args ...string) ([]byte, error) {
	cmd := exec.Command(d.blocksd, args...)
	cmd.Env = append(os.Environ(), "BLOCKSD_SOCKET="+d.socket)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 { // it says by its code that something is not ready
		return nil, fmt.Errorf("blocksd %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

// status is what of `status --json` is needed here.
type status struct {
	Tasks    struct{ Running int }
	Handlers []struct {
		Name      string
		Processes []struct {
			PID      int
			State    string
			RSSBytes int64
		}
	}
}

func (d *daemon) status() (s status, err error) {
	out, err := d.command("status", "--json")
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	return s, err
}

// handler returns the process of a handler that has one.
func (d *daemon) handler(name string) (pid int, err error) {
	s, err := d.status()
	if err != nil {
		return 0, err
	}
	for _, h := range s.Handlers {
		if h.Name == name && len(h.Processes) == 1 {
			return h.Processes[0].PID, nil
		}
	}
	return 0, fmt.Errorf("handler %s has not exactly one process: %+v", name, s)
}

// preparePlugins fills a directory with echo, and with a sleeper that takes many tasks.
func preparePlugins(bin, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, from := range map[string]string{"echo": "plugins", "sleeper": "testplugins"} {
		for _, f := range []string{name, name + ".agent-card.json"} {
			b, err := os.ReadFile(filepath.Join(bin, from, f))
			if err != nil {
				return err
			}
			if f == "sleeper.agent-card.json" {
				var card map[string]any
				if err := json.Unmarshal(b, &card); err != nil {
					return err
				}
				settings := card["runtime"].(map[string]any)
				settings["concurrency"], settings["maxPendingBacklog"] = crowdLimit, crowdLimit
				delete(settings, "maxRunningTimeSec")
				if b, err = json.Marshal(card); err != nil {
					return err
				}
			}
			if err := os.WriteFile(filepath.Join(dir, f), b, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// idleTime is how long idle traffic is counted: 15 heartbeats, so that one more or less makes no difference, and perhaps a
// poll and a look at the API key.
const idleTime = 135 * time.Second

// idle returns how many requests a second each of so many idle agents sends.
func (n *network) idle(agents int) (float64, error) {
	admin := n.origin + "/_sandbox/"
	record := func(on bool) error {
		return n.exchange("PUT", admin+"recording", n.get("BLOCKSD_SANDBOX_TOKEN"), map[string]any{"on": on, "limit": 10_000}, &struct{}{})
	}
	time.Sleep(3 * time.Second) // what the last task left behind
	if err := record(true); err != nil {
		return 0, err
	}
	time.Sleep(idleTime)
	var answer struct{ Requests []struct{ Path string } }
	if err := n.exchange("GET", admin+"requests", n.get("BLOCKSD_SANDBOX_TOKEN"), nil, &answer); err != nil {
		return 0, err
	}
	return float64(len(answer.Requests)) / idleTime.Seconds() / float64(agents), record(false)
}

// now is the network's time, as the events have it.
func (n *network) now() (time.Duration, error) {
	var answer [1]json.Number
	if err := n.exchange("GET", n.origin+"/time/0", "", nil, &answer); err != nil {
		return 0, err
	}
	return moment(answer[0].String())
}

// period keeps moments small enough to be durations.
const period = 864_000_000_000_000 // of 100 ns

// moment is a timetoken as a duration since some time.
func moment(timetoken string) (time.Duration, error) {
	units, err := strconv.ParseInt(timetoken, 10, 64) // of 100 ns
	return time.Duration(units%period) * 100, err
}

// failedError is the end of a task that failed.
type failedError struct{ id, text string }

func (e *failedError) Error() string { return fmt.Sprintf("task %s failed: %s", e.id, e.text) }
