package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// Rounds of two builds alternate, so that both have the same machine. Tasks of a round: one after the other, and with 16 in
// flight.
const (
	versusRounds                = 5
	versusSingle, versusMany    = 100, 1500
	versusWarmUp                = 300
	versusInFlight              = 16
	versusLimit                 = time.Minute
	versusOld, versusNew, sides = 0, 1, 2
)

// side is one of two builds, with its own network.
type side struct {
	net    *network
	daemon *process
	rounds []versusRound
}

// versusRound is what one round gave. The processor times are per task.
type versusRound struct {
	first, p99                       time.Duration // request stored → running stored, 1 in flight
	terminal                         time.Duration // request sent → terminal stored, 16 in flight, p50
	perSecond                        float64
	daemon, network, handler, driver time.Duration
}

// runVersus measures the build in bin against the one in old, both with all their parts, in rounds that alternate.
func runVersus(old, bin, work string) error {
	var all [sides]*side
	for i, dir := range []string{old, bin} {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		s, err := startSide(dir, filepath.Join(work, fmt.Sprint("side", i)))
		if err != nil {
			return fmt.Errorf("start the build in %s: %w", dir, err)
		}
		defer s.net.stop()
		defer s.daemon.stop()
		all[i] = s
	}
	for range versusRounds {
		for _, s := range all {
			r, err := s.round(versusSingle, versusMany)
			if err != nil {
				return err
			}
			s.rounds = append(s.rounds, r)
		}
	}
	reportVersus(all)
	return nil
}

func startSide(bin, work string) (*side, error) {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	plugins, state := filepath.Join(work, "plugins"), filepath.Join(work, "state")
	if err := preparePlugins(bin, plugins); err != nil {
		return nil, err
	}
	net, err := startNetwork(bin, work, "side.env")
	if err != nil {
		return nil, err
	}
	d, err := start(work, append(net.env, "LOG_LEVEL=warn"), filepath.Join(bin, "blocksd"), "run", "--plugins", plugins, "--state-dir", state, "--socket", filepath.Join(state, "s"))
	if err != nil {
		net.stop()
		return nil, err
	}
	s := &side{net: net, daemon: d}
	if _, err := s.round(1, versusWarmUp); err != nil {
		d.stop()
		net.stop()
		return nil, fmt.Errorf("%w; the daemon said: %s", err, d.output)
	}
	return s, nil
}

// round sends the tasks of one round.
func (s *side) round(single, many int) (r versusRound, err error) {
	var first, terminal []time.Duration
	for range single {
		t, err := s.net.task(versusLimit)
		if err != nil {
			return r, err
		}
		first = append(first, t.running-t.request)
	}
	r.first, r.p99 = quantile(first, .50), quantile(first, .99)
	before, err := s.used()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if terminal, err = s.net.inFlight(many); err != nil {
		return r, err
	}
	r.perSecond = float64(many) / time.Since(began).Seconds()
	after, err := s.used()
	n := time.Duration(many)
	r.terminal = quantile(terminal, .50)
	r.daemon, r.network, r.handler, r.driver = (after[0]-before[0])/n, (after[1]-before[1])/n, (after[2]-before[2])/n, (after[3]-before[3])/n
	return r, err
}

// inFlight sends tasks with 16 in flight, and returns how long each took.
func (n *network) inFlight(many int) ([]time.Duration, error) {
	took := make([]time.Duration, many)
	errs := make(chan error, versusInFlight)
	var next atomic.Int64
	for range versusInFlight {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= many {
					errs <- nil
					return
				}
				t, err := n.result(versusLimit)
				if err != nil {
					errs <- err
					return
				}
				took[i] = t.terminal - t.request
			}
		}()
	}
	var failed error
	for range versusInFlight {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return took, failed
}

// used is the processor time so far of the daemon, the network, the handlers and this driver.
func (s *side) used() (all [4]time.Duration, err error) {
	for i, pids := range [4][]int{{s.daemon.cmd.Process.Pid}, {s.net.cmd.Process.Pid}, s.daemon.handlers(), {os.Getpid()}} {
		for _, pid := range pids {
			used, err := cpu(pid)
			if err != nil {
				return all, err
			}
			all[i] += used
		}
	}
	return all, nil
}

func reportVersus(all [sides]*side) {
	row := func(what, unit string, value func(versusRound) float64) {
		var medians [sides]float64
		var spread string
		for i, s := range all {
			var v []float64
			for _, r := range s.rounds {
				v = append(v, value(r))
			}
			slices.Sort(v)
			medians[i] = v[len(v)/2]
			spread += fmt.Sprintf(" %.4g–%.4g", v[0], v[len(v)-1])
		}
		fmt.Printf("%-51s %10.4g %10.4g %-4s ratio %.2f  (%s )\n", what, medians[versusOld], medians[versusNew], unit, medians[versusNew]/medians[versusOld], spread)
	}
	fmt.Printf("%-51s %10s %10s\n", "medians of alternating rounds", "old", "new")
	row("request stored → first publish, p50, 1 in flight", "ms", func(r versusRound) float64 { return ms(r.first) })
	row("request stored → first publish, p99, 1 in flight", "ms", func(r versusRound) float64 { return ms(r.p99) })
	row("request sent → terminal, p50, 16 in flight", "ms", func(r versusRound) float64 { return ms(r.terminal) })
	row("request tasks end to end, 16 in flight", "1/s", func(r versusRound) float64 { return r.perSecond })
	row("CPU of the daemon per task", "ms", func(r versusRound) float64 { return ms(r.daemon) })
	row("CPU of the network per task", "ms", func(r versusRound) float64 { return ms(r.network) })
	row("CPU of the handler per task", "ms", func(r versusRound) float64 { return ms(r.handler) })
	row("CPU of the driver per task", "ms", func(r versusRound) float64 { return ms(r.driver) })
}
