package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sessions is what it costs to follow so many tasks at once from one process.
type sessions struct {
	count       int
	memory      int64           // bytes more than before they were opened
	connections int             // open sockets then
	ends        []time.Duration // terminal stored → the wait for it has returned
}

// How many sessions each side opens. The SDK has threads and connections of its own for each.
const (
	fewSessions  = 50
	manySessions = 1000
)

// follower starts a program that follows tasks.
type follower func() *exec.Cmd

// measureSessions has the SDK, where it is installed, and package client follow tasks of the sleeper, served by blocksd.
func measureSessions(bin, work string) (all []namedSessions, err error) {
	plugins := filepath.Join(work, "plugins")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	if err := preparePlugins(bin, plugins); err != nil {
		return nil, err
	}
	net, err := startNetwork(bin, work, "sessions.env")
	if err != nil {
		return nil, err
	}
	defer net.stop()
	state := filepath.Join(work, "state")
	d, err := start(work, append(net.env, "LOG_LEVEL=warn"), filepath.Join(bin, "blocksd"), "run", "--plugins", plugins, "--state-dir", state, "--socket", filepath.Join(state, "s"))
	if err != nil {
		return nil, err
	}
	defer d.stop()
	if _, err := net.follow1("sleeper", "1ms"); err != nil {
		return nil, fmt.Errorf("%w; the daemon said: %s", err, d.output)
	}
	ours := filepath.Join(work, "sessions")
	if out, err := exec.Command("go", "build", "-o", ours, "./e2e/bench/sessions").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build e2e/bench/sessions: %w: %s", err, out)
	}
	scripts, err := filepath.Abs("e2e/interop/blocks")
	if err != nil {
		return nil, err
	}
	measure := func(name string, count int, f follower) error {
		s, err := net.sessions(count, f)
		if err != nil {
			return fmt.Errorf("%d sessions of %s: %w", count, name, err)
		}
		all = append(all, namedSessions{name, s})
		return nil
	}
	if runner, ok := installedRunner(); ok {
		if err := measure("SDK", fewSessions, func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(filepath.Dir(runner), "python"), filepath.Join(scripts, "sessions.py"))
			cmd.Env = append(append(os.Environ(), net.env...), "PUBNUB_REQUEST_HANDLER=loopback.LoopbackHandler", "PYTHONPATH="+scripts, "PYTHONDONTWRITEBYTECODE=1")
			return cmd
		}); err != nil {
			return nil, err
		}
	}
	for _, count := range []int{fewSessions, manySessions} {
		if err := measure("client", count, func() *exec.Cmd {
			cmd := exec.Command(ours)
			cmd.Env = append(os.Environ(), net.env...)
			return cmd
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

type namedSessions struct {
	name string
	*sessions
}

// sessions has a program follow so many running tasks, then ends them.
func (n *network) sessions(count int, f follower) (*sessions, error) {
	tasks, seen, err := n.running(count, false)
	if err != nil {
		return nil, err
	}
	cmd := f()
	said := new(tail)
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, output: said}
	defer p.kill()
	lines := bufio.NewScanner(out)
	await := func(want string) error {
		if !lines.Scan() || lines.Text() != want {
			return fmt.Errorf("it says %q instead of %q: %s", lines.Text(), want, said)
		}
		return nil
	}
	if err := await("connected"); err != nil {
		return nil, err
	}
	before := p.rss()
	for _, t := range tasks {
		if _, err := fmt.Fprintln(in, t.id); err != nil {
			return nil, err
		}
	}
	in.Close()
	if err := await("running"); err != nil {
		return nil, err
	}
	s := &sessions{count: count, memory: p.rss() - before, connections: p.sockets()}
	returned := make(chan map[string]time.Duration, 1)
	go func() {
		at := map[string]time.Duration{}
		for len(at) < count && lines.Scan() {
			id, ns, _ := strings.Cut(lines.Text(), " ")
			if moment, err := strconv.ParseInt(ns, 10, 64); err == nil {
				at[id] = time.Duration(moment/100%period) * 100
			}
		}
		returned <- at
	}()
	if _, err := n.end(tasks, seen); err != nil {
		return nil, err
	}
	var at map[string]time.Duration
	select {
	case at = <-returned:
	case <-time.After(time.Minute):
		return nil, errors.New("not all ends have been seen within a minute")
	}
	for i, t := range tasks {
		if at[t.id] == 0 {
			return nil, fmt.Errorf("the end of task %s was not seen: %s", t.id, said)
		}
		s.ends = append(s.ends, at[t.id]-seen[i].terminal)
	}
	return s, nil
}

// sockets are how many a process has open.
func (p *process) sockets() (n int) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

func reportSessions(all []namedSessions) {
	var theirs *sessions
	for _, s := range all {
		if s.name == "SDK" {
			theirs = s.sessions
			continue
		}
		row := func(what, unit, budget string, value func(*sessions) float64) {
			left, ratio := "-", "(SDK not installed: make interop)"
			if theirs != nil {
				left, ratio = fmt.Sprintf("%.4g", value(theirs)), fmt.Sprintf("%.1f× better than the SDK's %d", value(theirs)/value(s.sessions), theirs.count)
			}
			fmt.Printf("%-51s %10s %10.4g %-8s budget %-14s %s\n", fmt.Sprintf("%d sessions of one process: %s", s.count, what), left, value(s.sessions), unit, budget, ratio)
		}
		row("memory each", "KiB", "", func(s *sessions) float64 { return float64(s.memory) / 1024 / float64(s.count) })
		row("connections in all", "", "a handful", func(s *sessions) float64 { return float64(s.connections) })
		row("end stored → wait returns, p50", "ms", "", func(s *sessions) float64 { return ms(quantile(s.ends, .50)) })
		row("end stored → wait returns, p99", "ms", "≤ 5 arrived", func(s *sessions) float64 { return ms(quantile(s.ends, .99)) })
	}
}
