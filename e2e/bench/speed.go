package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// speeds is how fast streams of one provider are, on a network that adds 20 ms to each publish. The reader is the same for
// both: `blocksd call --stream`.
type speeds struct {
	perSecond map[int]float64 // bytes a second, by the size of one write
	lost      map[int]float64 // the part that the network no longer had when the reader asked
	lone      []time.Duration // from a write, while nothing else is written, until it is read; without the 20 ms
}

// transfer is one large stream on an unreliable network, only with blocksd.
type transfer struct {
	bytes  int64 // that have arrived
	lost   int64
	took   time.Duration
	intact bool
}

const (
	addedDelay = 20 * time.Millisecond
	// loneWrites are how many writes are timed one by one.
	loneWrites = 20
	// The large stream: these writes, repeated.
	largeRepeat = 800
)

// largeWrites are of different sizes, so that two messages that change places change the whole.
var largeWrites = []int{65536, 1000, 40000, 16385, 8150}

// volumes are how much is written for a measurement, by the size of one write. The SDK is slower.
var volumes = map[int]struct{ theirs, ours int }{1 << 10: {1 << 20, 16 << 20}, 64 << 10: {8 << 20, 32 << 20}}

// measureSpeeds has the SDK, where it is installed, and blocksd write the same streams.
func measureSpeeds(bin, work string) (theirs, ours *speeds, large *transfer, err error) {
	plugins := filepath.Join(work, "plugins")
	if err := prepareScripted(bin, plugins); err != nil {
		return nil, nil, nil, err
	}
	if runner, ok := installedRunner(); ok {
		net, err := startNetwork(bin, work, "speed-sdk.env")
		if err != nil {
			return nil, nil, nil, err
		}
		defer net.stop()
		p, err := startSDK(net, runner, work, "scripted", "handler.py", 4)
		if err != nil {
			return nil, nil, nil, err
		}
		defer p.kill()
		if theirs, err = net.speeds(bin, func(size int) int { return volumes[size].theirs }); err != nil {
			return nil, nil, nil, fmt.Errorf("measure the streams of the SDK: %w; it said: %s", err, p.output)
		}
	}
	net, err := startNetwork(bin, work, "speed.env")
	if err != nil {
		return nil, nil, nil, err
	}
	defer net.stop()
	state := filepath.Join(work, "speed-state")
	d, err := start(work, append(net.env, "LOG_LEVEL=warn"), filepath.Join(bin, "blocksd"), "run", "--plugins", plugins, "--state-dir", state, "--socket", filepath.Join(state, "s"))
	if err != nil {
		return nil, nil, nil, err
	}
	defer d.stop()
	if ours, err = net.speeds(bin, func(size int) int { return volumes[size].ours }); err == nil {
		large, err = net.large(bin)
	}
	if err != nil {
		err = fmt.Errorf("%w; the daemon said: %s", err, d.output)
	}
	return theirs, ours, large, err
}

// speeds measures the provider of a network.
func (n *network) speeds(bin string, volume func(size int) int) (*speeds, error) {
	if _, err := n.follow1("scripted", "[]"); err != nil { // waits until the provider serves
		return nil, err
	}
	s := &speeds{perSecond: map[int]float64{}, lost: map[int]float64{}}
	var err error
	if s.lone, err = n.loneWrites(bin); err != nil {
		return nil, err
	}
	if err := n.fault(map[string]any{"endpoint": "publish", "channel": "stream.*", "delay": addedDelay.String()}); err != nil {
		return nil, err
	}
	for size := range volumes {
		total := volume(size)
		text := strings.Repeat("x", size)
		var first, last time.Time
		read, err := n.readStream(bin, "log", []map[string]any{{"write": map[string]any{"name": "log", "chunks": []string{text}, "repeat": total / size}}}, func(r io.Reader) (int64, error) {
			buf := make([]byte, 64<<10)
			var all int64
			for {
				m, err := r.Read(buf)
				if m > 0 {
					last = time.Now()
					if all == 0 {
						first = last
					}
					all += int64(m)
				}
				if err == io.EOF {
					return all, nil
				}
				if err != nil {
					return all, err
				}
			}
		})
		if err != nil {
			return nil, err
		}
		s.lost[size] = 1 - float64(read)/float64(total)
		s.perSecond[size] = float64(read) / last.Sub(first).Seconds()
	}
	return s, nil
}

// large sends a hundred megabytes through one stream, while one message in a hundred comes twice and two come in another
// order.
func (n *network) large(bin string) (*transfer, error) {
	for _, rule := range []map[string]any{
		{"action": "duplicate", "channel": "stream.*", "every": 100},
		{"action": "reorder", "channel": "stream.*", "every": 50},
	} {
		if err := n.fault(rule); err != nil {
			return nil, err
		}
	}
	want := sha256.New()
	t := &transfer{}
	var chunks []map[string]any
	for _, size := range largeWrites {
		chunks = append(chunks, map[string]any{"size": size})
	}
	var total int64
	for range largeRepeat {
		for _, size := range largeWrites {
			want.Write(pattern(size))
			total += int64(size)
		}
	}
	got := sha256.New()
	began := time.Now()
	var err error
	t.bytes, err = n.readStream(bin, "log", []map[string]any{{"write": map[string]any{"name": "log", "chunks": chunks, "repeat": largeRepeat}}}, func(r io.Reader) (int64, error) {
		return io.Copy(got, r)
	})
	t.took, t.lost, t.intact = time.Since(began), total-t.bytes, bytes.Equal(got.Sum(nil), want.Sum(nil))
	return t, err
}

// pattern are the bytes of the handlers' step "write" with a size.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 7 % 251)
	}
	return b
}

// loneWrites measures how long a write that is alone takes to its reader.
func (n *network) loneWrites(bin string) (took []time.Duration, err error) {
	_, err = n.readStream(bin, "ticks", []map[string]any{{"clock": map[string]any{"name": "ticks", "count": loneWrites, "every": 0.4}}}, func(r io.Reader) (int64, error) {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			now := time.Now()
			var event struct{ Now float64 }
			if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
				return 0, fmt.Errorf("%w: %s", err, lines.Bytes())
			}
			took = append(took, now.Sub(time.Unix(0, int64(event.Now*1e9))))
		}
		return int64(len(took)), lines.Err()
	})
	if err == nil && len(took) != loneWrites {
		err = fmt.Errorf("%d of %d events arrived", len(took), loneWrites)
	}
	return took, err
}

// readStream sends a pipe task, and gives what the agent streams to a function; the task is canceled when the stream ends.
func (n *network) readStream(bin, name string, steps []map[string]any, read func(io.Reader) (int64, error)) (int64, error) {
	text, err := json.Marshal(append(steps, map[string]any{"return": map[string]any{"text": "done", "mimeType": "text/plain"}}))
	if err != nil {
		return 0, err
	}
	s, err := n.submitWith("scripted", string(text), map[string]any{"blocks": map[string]any{"stream": true, "taskKind": "pipe", "duration": 10}})
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(filepath.Join(bin, "blocksd"), "follow", s.id, "--stream")
	cmd.Env = append(os.Environ(), n.env...)
	said := new(tail)
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// A pipe task lasts until it is canceled: this is done when its handler has returned.
	canceled := make(chan error, 1)
	go func() { canceled <- n.cancelAfterArtifact(s) }()
	all, err := read(out)
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // it says that the task was canceled
	if cancelErr := <-canceled; err == nil {
		err = cancelErr
	}
	if err != nil {
		err = fmt.Errorf("read stream %s of task %s: %w: %s", name, s.id, err, said)
	}
	return all, err
}

// cancelAfterArtifact ends a pipe task when its handler has answered.
func (n *network) cancelAfterArtifact(s sent) error {
	cursor := s.cursor
	for deadline := time.Now().Add(9 * time.Minute); time.Now().Before(deadline); {
		var answer struct {
			T struct{ T string }
			M []struct {
				D struct{ Type, Error string }
			}
		}
		if err := n.exchange("GET", n.origin+"/v2/subscribe/"+n.subscribe+"/"+s.channel+"/0?tt="+cursor+"&uuid=bench&auth="+s.token, "", nil, &answer); err != nil {
			return err
		}
		cursor = answer.T.T
		for _, m := range answer.M {
			switch m.D.Type {
			case "terminal":
				return &failedError{s.id, m.D.Error}
			case "artifact":
				return n.cancel(s)
			}
		}
	}
	return fmt.Errorf("the handler of task %s has not returned", s.id)
}

// fault adds a fault to the network.
func (n *network) fault(rule map[string]any) error {
	return n.exchange(http.MethodPost, "http://"+n.get("BLOCKSD_PUBNUB_ORIGIN")+"/_sandbox/faults", n.get("BLOCKSD_SANDBOX_TOKEN"), rule, &struct{}{})
}

func reportSpeeds(theirs, ours *speeds, large *transfer) {
	row := func(what, unit, budget string, t func(*speeds) float64, faster bool) {
		left, ratio := "-", "(SDK not installed: make interop)"
		if theirs != nil {
			r := t(ours) / t(theirs)
			if !faster {
				r = 1 / r
			}
			left, ratio = fmt.Sprintf("%.4g", t(theirs)), fmt.Sprintf("%.1f× better than the SDK", r)
		}
		fmt.Printf("%-51s %10s %10.4g %-8s budget %-14s %s\n", what, left, t(ours), unit, budget, ratio)
	}
	for _, size := range []int{1 << 10, 64 << 10} {
		row(fmt.Sprintf("stream written %d KiB at a time, 20 ms per publish", size>>10), "MB/s", "≥ 10×", func(s *speeds) float64 { return s.perSecond[size] / 1e6 }, true)
		for name, s := range map[string]*speeds{"the SDK": theirs, "blocksd": ours} {
			if s != nil && s.lost[size] != 0 {
				fmt.Printf("  of what %s has written %.2f %% was lost: the reader was away for longer than the network keeps 100 messages\n", name, 100*s.lost[size])
			}
		}
	}
	row("lone write to a stream → read, p50", "ms", "≤ 3", func(s *speeds) float64 { return ms(quantile(s.lone, .50)) }, false)
	row("lone write to a stream → read, p99", "ms", "", func(s *speeds) float64 { return ms(quantile(s.lone, .99)) }, false)
	intact := "intact"
	if !large.intact {
		intact = fmt.Sprintf("NOT INTACT, %d bytes were lost,", large.lost)
	}
	fmt.Printf("%-51s %10s %10.4g %-8s %s, %.0f MB in %s\n", "the same with 1 % twice, 2 % in another order", "", float64(large.bytes)/1e6/large.took.Seconds(), "MB/s",
		intact, float64(large.bytes)/1e6, large.took.Round(time.Millisecond))
}
