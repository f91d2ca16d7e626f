package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// streamCosts is what streams cost the daemon.
type streamCosts struct {
	fast  float64 // cores of the daemon for one stream of 1 MiB a second
	many  float64 // cores of the daemon for manyStreams, each of which is written once a second
	bytes int64   // memory of the daemon then
}

const (
	manyStreams = 1000
	// streamSpan is how long each is measured.
	streamSpan = 10 * time.Second
)

// measureStreams has a daemon of its own serve streams that are written at a steady rate.
func measureStreams(bin, work string) (*streamCosts, error) {
	plugins := filepath.Join(work, "plugins")
	if err := prepareScripted(bin, plugins); err != nil {
		return nil, err
	}
	net, err := startNetwork(bin, work, "streams.env")
	if err != nil {
		return nil, err
	}
	defer net.stop()
	state := filepath.Join(work, "state")
	d := &daemon{blocksd: filepath.Join(bin, "blocksd"), socket: filepath.Join(state, "s")}
	d.process, err = start(work, append(net.env, "LOG_LEVEL=warn"), d.blocksd, "run", "--plugins", plugins, "--state-dir", state, "--socket", d.socket)
	if err != nil {
		return nil, err
	}
	defer d.stop()
	c := &streamCosts{}
	// A daemon that has just started does other work too.
	if _, err := net.follow1("scripted", `[{"return":{"text":"x"}}]`); err != nil {
		return nil, err
	}
	if c.fast, _, err = net.pace(d.process, map[string]any{"name": "log", "size": 16 << 10, "every": 1.0 / 64}); err != nil {
		return nil, fmt.Errorf("%w; the daemon said: %s", err, d.output)
	}
	if c.many, c.bytes, err = net.pace(d.process, map[string]any{"name": "ticks", "streams": manyStreams, "size": 100, "every": 1}); err != nil {
		return nil, fmt.Errorf("%w; the daemon said: %s", err, d.output)
	}
	return c, nil
}

// prepareScripted puts the handler that does what its request says into a directory of its own.
func prepareScripted(bin, plugins string) error {
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		return err
	}
	for _, f := range []string{"scripted", "scripted.agent-card.json"} {
		b, err := os.ReadFile(filepath.Join(bin, "testplugins", f))
		if err == nil {
			err = os.WriteFile(filepath.Join(plugins, f), b, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pace has the handler write at a pace, and returns how many cores the daemon needs for it, and how much memory.
func (n *network) pace(provider *process, step map[string]any) (cores float64, bytes int64, err error) {
	text, err := json.Marshal([]map[string]any{{"pace": step}})
	if err != nil {
		return 0, 0, err
	}
	s, err := n.submitWith("scripted", string(text), map[string]any{"blocks": map[string]any{"stream": true, "taskKind": "pipe", "duration": 5}})
	if err != nil {
		return 0, 0, err
	}
	if err := n.awaitStatus(s); err != nil {
		return 0, 0, err
	}
	time.Sleep(2 * time.Second) // the set-ups are over
	before, err := provider.cpu()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	time.Sleep(streamSpan)
	after, err := provider.cpu()
	if err != nil {
		return 0, 0, err
	}
	cores, bytes = float64(after-before)/float64(time.Since(began)), provider.rss()
	if err := n.cancel(s); err != nil {
		return 0, 0, err
	}
	var seen times
	return cores, bytes, n.follow(&s, time.Minute, &seen, func() bool { return seen.terminal != 0 })
}

// awaitStatus waits for a status of the handler.
func (n *network) awaitStatus(s sent) error {
	cursor := s.cursor
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		var answer struct {
			T struct{ T string }
			M []struct {
				D struct{ Type, Message, Error string }
			}
		}
		if err := n.exchange("GET", n.origin+"/v2/subscribe/"+n.subscribe+"/"+s.channel+"/0?tt="+cursor+"&uuid=bench&auth="+s.token, "", nil, &answer); err != nil {
			return err
		}
		cursor = answer.T.T
		for _, m := range answer.M {
			switch {
			case m.D.Type == "terminal":
				return &failedError{s.id, m.D.Error}
			case m.D.Message != "":
				return nil
			}
		}
	}
	return fmt.Errorf("the handler of task %s has not begun within a minute", s.id)
}

func (c *streamCosts) report() {
	row := func(what, unit, budget string, v float64) {
		fmt.Printf("%-51s %10s %10.4g %-8s budget %s\n", what, "", v, unit, budget)
	}
	row("a stream of 1 MiB a second: processor of the daemon", "cores", "< 0.1", c.fast)
	row(fmt.Sprintf("%d streams, each written once a second: processor", manyStreams), "cores", "< 1", c.many)
	row(fmt.Sprintf("%d streams, each written once a second: memory", manyStreams), "MiB", "< 300", float64(c.bytes)/(1<<20))
}
