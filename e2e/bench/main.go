// Command bench measures the whole system, as ratios in one run: the same load, through the same sandbox and a raw HTTP
// driver, first to Blocks' own SDK as provider (where `make interop` has installed it), then to blocksd. Network,
// provider and driver share the machine. Absolute numbers move with the machine; the ratios are what to watch.
//
// usage: bench -bin DIR [-tasks N]
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "directory that make build filled")
	tasks := flag.Int("tasks", 4000, "request tasks to send to blocksd with 16 in flight")
	flag.Parse()
	if err := run(*bin, *tasks); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(bin string, tasks int) error {
	work, err := os.MkdirTemp("", "blocksd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}

	sdk, err := measureSDK(bin, work)
	if err != nil {
		return fmt.Errorf("measure the Blocks SDK: %w", err)
	}
	ours, err := measureDaemon(bin, work, tasks)
	if err != nil {
		return fmt.Errorf("measure blocksd: %w", err)
	}
	report(sdk, ours)
	return nil
}

// result is what one provider achieved.
type result struct {
	firstPublish []time.Duration // request stored → running stored, 1 in flight
	terminal16   []time.Duration // request stored → terminal stored, 16 in flight
	perSecond    float64         // tasks ended per second, 16 in flight
	cpuPerTask   time.Duration   // of the provider process alone
	rss          int64           // bytes after the load
}

func report(sdk *result, ours *result) {
	row := func(what string, unit string, budget string, theirs, our float64, higherIsBetter bool) {
		ratio := "(SDK not installed: make interop)"
		left := "-"
		if sdk != nil {
			left = fmt.Sprintf("%.4g", theirs)
			r := theirs / our
			if higherIsBetter {
				r = our / theirs
			}
			ratio = fmt.Sprintf("%.1f× better than the SDK", r)
		}
		fmt.Printf("%-46s %10s %10.4g %-8s budget %-14s %s\n", what, left, our, unit, budget, ratio)
	}
	var t result
	if sdk != nil {
		t = *sdk
	}
	fmt.Printf("%-46s %10s %10s\n", "", "SDK", "blocksd")
	row("request stored → first publish, p50, 1 in flight", "ms", "≤ 2", ms(quantile(t.firstPublish, .50)), ms(quantile(ours.firstPublish, .50)), false)
	row("request stored → first publish, p99, 1 in flight", "ms", "≤ 6", ms(quantile(t.firstPublish, .99)), ms(quantile(ours.firstPublish, .99)), false)
	row("request stored → terminal, p50, 16 in flight", "ms", "≤ 10", ms(quantile(t.terminal16, .50)), ms(quantile(ours.terminal16, .50)), false)
	row("request tasks end to end, 16 in flight", "1/s", "≥ 2000, ≥ 40×", t.perSecond, ours.perSecond, true)
	row("CPU of the provider per task", "ms", "≤ 0.5", ms(t.cpuPerTask), ms(ours.cpuPerTask), false)
	row("resident memory of the provider after the load", "MiB", "", float64(t.rss)/(1<<20), float64(ours.rss)/(1<<20), false)
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
	scripts, err := filepath.Abs("e2e/interop/blocks")
	if err != nil {
		return nil, err
	}
	runner, err := filepath.Abs("e2e/interop/.cache/blocks-1.0.23/bin/blocks-run")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(runner); err != nil {
		return nil, nil
	}
	dir := filepath.Join(work, "sdk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	var card map[string]any
	if b, err := os.ReadFile(filepath.Join(bin, "plugins", "echo.agent-card.json")); err != nil {
		return nil, err
	} else if err := json.Unmarshal(b, &card); err != nil {
		return nil, err
	}
	settings := card["runtime"].(map[string]any)
	settings["handler"], settings["handlerExport"], settings["concurrency"] = "./echo_handler.py", "handler", 32
	b, err := json.Marshal(card)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "agent-card.json"), b, 0o644); err != nil {
		return nil, err
	}
	if b, err = os.ReadFile(filepath.Join(scripts, "echo_handler.py")); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "echo_handler.py"), b, 0o644); err != nil {
		return nil, err
	}
	net, err := startNetwork(bin, work, "sdk.env")
	if err != nil {
		return nil, err
	}
	defer net.stop()
	provider, err := start(dir, append(net.env, "PUBNUB_REQUEST_HANDLER=loopback.LoopbackHandler", "PYTHONPATH="+scripts), runner)
	if err != nil {
		return nil, err
	}
	defer provider.stop()
	return measure(net, provider, 60, 200)
}

func measureDaemon(bin, work string, tasks int) (*result, error) {
	net, err := startNetwork(bin, work, "blocksd.env")
	if err != nil {
		return nil, err
	}
	defer net.stop()
	plugins := filepath.Join(work, "plugins")
	if err := os.Mkdir(plugins, 0o755); err != nil {
		return nil, err
	}
	for _, f := range []string{"echo", "echo.agent-card.json"} {
		b, err := os.ReadFile(filepath.Join(bin, "plugins", f))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(plugins, f), b, 0o755); err != nil {
			return nil, err
		}
	}
	state := filepath.Join(work, "state")
	daemon, err := start(work, append(net.env, "LOG_LEVEL=warn"), filepath.Join(bin, "blocksd"), "run", "--plugins", plugins, "--state-dir", state, "--socket", filepath.Join(state, "s"))
	if err != nil {
		return nil, err
	}
	defer daemon.stop()
	return measure(net, daemon, 300, tasks)
}

// measure sends single tasks one after the other, then many with 16 in flight.
func measure(net *network, provider *process, single, many int) (*result, error) {
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
	cpu, err := provider.cpu()
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
				t, err := net.task(60 * time.Second)
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
	r.cpuPerTask = (after - cpu) / time.Duration(many)
	r.rss = provider.rss()
	return r, nil
}

// network is a sandbox and what a consumer needs to use it.
type network struct {
	*process
	env       []string
	base      string
	origin    string
	subscribe string
	token     string
	http      *http.Client
}

func startNetwork(bin, work, envFile string) (*network, error) {
	path := filepath.Join(work, envFile)
	p, err := start(work, []string{"LOG_LEVEL=warn"}, filepath.Join(bin, "blocksd"), "sandbox", "--listen", "127.0.0.1:0", "--agents", filepath.Join(bin, "plugins"), "--env-file", path)
	if err != nil {
		return nil, err
	}
	n := &network{process: p, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 2 * time.Minute}}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if err == nil {
			n.env = strings.Fields(string(b))
			break
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("the sandbox wrote no %s: %s", path, p.output)
		}
	}
	var cdm struct {
		Playground struct{ SubscribeKey string }
		API        struct{ BaseURL string }
	}
	if err := n.exchange("GET", n.get("BLOCKS_CDM_URL"), nil, &cdm); err != nil {
		p.stop()
		return nil, err
	}
	n.base, n.origin, n.subscribe = cdm.API.BaseURL, "http://"+n.get("BLOCKSD_PUBNUB_ORIGIN"), cdm.Playground.SubscribeKey
	return n, nil
}

func (n *network) get(key string) string {
	for _, kv := range n.env {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return strings.Trim(v, `'"`)
		}
	}
	return ""
}

// times of a task by the network's clock.
type times struct{ request, running, terminal time.Duration }

// task sends one task to echo and follows its channel until the terminal event.
func (n *network) task(limit time.Duration) (times, error) {
	var token struct{ AccessToken string }
	if n.token == "" || time.Now().UnixMilli()%30_000 == 0 {
		if err := n.exchange("POST", n.base+"/api/v1/auth/agent/consumer-token", map[string]string{"apiKey": n.get("BLOCKS_API_KEY")}, &token); err != nil {
			return times{}, err
		}
		n.token = token.AccessToken
	}
	var sent struct {
		Result struct {
			TaskID     string
			Extensions struct {
				Blocks struct {
					ReadToken      string
					StreamChannels struct{ Status string }
				}
			}
		}
		Error json.RawMessage
	}
	err := n.exchange("POST", n.base+"/api/v1/rpc", map[string]any{
		"jsonrpc": "2.0", "id": "bench", "method": "SendMessage",
		"params": map[string]any{"agentName": "echo", "billingMode": "free", "ownerId": "", "requestParts": []map[string]string{{"partId": "request", "text": "hello"}}},
	}, &sent)
	if err != nil {
		return times{}, err
	}
	if sent.Result.TaskID == "" {
		return times{}, fmt.Errorf("SendMessage: %s", sent.Error)
	}
	var seen times
	cursor := "1000" // everything retained
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		var answer struct {
			T struct{ T string }
			M []struct {
				P struct{ T string }
				D struct{ Type, State, Error string }
			}
		}
		url := fmt.Sprintf("%s/v2/subscribe/%s/%s/0?tt=%s&uuid=bench&auth=%s", n.origin, n.subscribe, sent.Result.Extensions.Blocks.StreamChannels.Status, cursor, sent.Result.Extensions.Blocks.ReadToken)
		if err := n.exchange("GET", url, nil, &answer); err != nil {
			return times{}, err
		}
		cursor = answer.T.T
		for _, m := range answer.M {
			units, err := strconv.ParseInt(m.P.T, 10, 64) // of 100 ns
			if err != nil {
				return times{}, err
			}
			at := time.Duration(units%864_000_000_000_000) * 100
			switch {
			case m.D.Type == "request":
				seen.request = at
			case m.D.Type == "progress" && m.D.State == "running":
				seen.running = at
			case m.D.Type == "terminal" && m.D.State == "completed":
				seen.terminal = at
				return seen, nil
			case m.D.Type == "terminal":
				return times{}, fmt.Errorf("task %s ended %s: %s", sent.Result.TaskID, m.D.State, m.D.Error)
			}
		}
	}
	return times{}, fmt.Errorf("task %s did not end within %s", sent.Result.TaskID, limit)
}

func (n *network) exchange(method, url string, body, result any) error {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = strings.NewReader(string(b))
	}
	req, err := http.NewRequest(method, url, payload)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Blocks-Protocol-Version", "2026-05-01")
	if n.token != "" {
		req.Header.Set("Authorization", "Bearer "+n.token)
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: HTTP %d %s", strings.SplitN(url, "?", 2)[0], resp.StatusCode, b)
	}
	return json.Unmarshal(b, result)
}

// process is a program that the benchmark started.
type process struct {
	cmd    *exec.Cmd
	output *tail
}

func start(dir string, env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), output: new(tail)}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// cpu is the processor time that the process has used, without its children. The kernel counts in hundredths of a second.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

func (p *process) rss() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// tail keeps the last output of a process for error texts.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 8<<10 {
		t.buf = t.buf[len(t.buf)-8<<10:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
