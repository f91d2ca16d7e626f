package pubnub

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/sandbox/pubsub"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// loaded is a server on a real socket with raw connections to it: on a machine with two cores a full client would cost
// more than what is measured.
type loaded struct {
	space *pubsub.Space
	addr  string
}

func load(t testing.TB, ring int, hold time.Duration) *loaded {
	t.Helper()
	space, err := pubsub.New(pubsub.Config{SubscribeKey: "s", History: switches.History{RingSize: ring}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Keysets: []Keyset{{PublishKey: "p", Space: space}}, PubNub: switches.PubNub{HoldPoll: hold}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		space.Close()
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return &loaded{space, l.Addr().String()}
}

// conn is one kept-alive connection of a client.
type conn struct {
	net.Conn
	in  *bufio.Reader
	buf []byte
}

func dial(addr string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReaderSize(c, 4096)}, nil
}

// roundTrip sends a request and reads the body of its answer, which is valid until the next one.
func (c *conn) roundTrip(req []byte) ([]byte, error) {
	if _, err := c.Write(req); err != nil {
		return nil, err
	}
	return c.answer()
}

func (c *conn) answer() ([]byte, error) {
	length, status := -1, ""
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if status == "" {
			status = string(line)
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
		}
	}
	if length < 0 || !strings.HasPrefix(status, "HTTP/1.1 200") {
		return nil, fmt.Errorf("answer %s with %d bytes", strings.TrimSpace(status), length)
	}
	if cap(c.buf) < length {
		c.buf = make([]byte, length)
	}
	c.buf = c.buf[:length]
	_, err := io.ReadFull(c.in, c.buf)
	return c.buf, err
}

func wire(path string) []byte { return []byte("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n") }

// cursorOf reads the cursor of an answer, which always stands at the same place.
func cursorOf(body []byte) (string, error) {
	const at = len(`{"t":{"t":"`)
	if len(body) < at+17 {
		return "", fmt.Errorf("answer %q has no cursor", body)
	}
	return string(body[at : at+17]), nil
}

// follow polls channels until ctx ends, and gives each answer to handle.
func (l *loaded) follow(ctx context.Context, channels, uuid string, ready func(), handle func(body []byte)) error {
	c, err := dial(l.addr)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer c.Close()
	cursor := "0"
	for {
		body, err := c.roundTrip(wire("/v2/subscribe/s/" + channels + "/0?uuid=" + uuid + "&tt=" + cursor))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		first := cursor == "0"
		if cursor, err = cursorOf(body); err != nil {
			return err
		}
		if first {
			ready()
			continue
		}
		handle(body)
	}
}

// BenchmarkPublishOverHTTP: publishes over loopback HTTP with one subscriber per channel, who gets them all.
func BenchmarkPublishOverHTTP(b *testing.B) {
	const channels = 8
	l := load(b, 1<<16, time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	var all, ready sync.WaitGroup
	var received atomic.Int64
	ready.Add(channels)
	for i := range channels {
		all.Go(func() {
			if err := l.follow(ctx, fmt.Sprintf("c%d", i), fmt.Sprintf("s%d", i), ready.Done, func(body []byte) {
				received.Add(int64(bytes.Count(body, []byte(`{"a":"1"`))))
			}); err != nil {
				b.Error(err)
			}
		})
	}
	ready.Wait()
	work := make(chan struct{}, 1024)
	var publishers sync.WaitGroup
	for i := range channels {
		publishers.Go(func() {
			c, err := dial(l.addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			body := `{"type":"progress","taskId":"t","progress":0,"state":"running"}`
			req := fmt.Appendf(nil, "POST /publish/p/s/0/c%d/0?uuid=u&store=0 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
			for range work {
				if _, err := c.roundTrip(req); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.ResetTimer()
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	publishers.Wait()
	b.StopTimer()
	rate := float64(b.N) / b.Elapsed().Seconds()
	deadline := time.Now().Add(10 * time.Second)
	for received.Load() < int64(b.N) && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	cancel()
	all.Wait()
	if n := received.Load(); n != int64(b.N) {
		b.Errorf("%d of %d messages received", n, b.N)
	}
	b.ReportMetric(rate, "publishes/s")
}

// exactlyOnce lets publishers write to channels of which every subscriber follows several, and checks that each message
// came once to each who asked for it.
func exactlyOnce(t testing.TB, publishers, subscribers, each int) (deliveries int) {
	const width = 5 // channels of a subscriber
	l := load(t, publishers*each, time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all, ready sync.WaitGroup
	ready.Add(subscribers)
	want := width * each
	finished := make(chan struct{}, subscribers)
	for i := range subscribers {
		all.Go(func() {
			var names []string
			for j := range width {
				names = append(names, fmt.Sprintf("c%d", (i+j*7)%publishers))
			}
			seen := make(map[int]bool, want)
			last := ""
			if err := l.follow(ctx, strings.Join(names, ","), fmt.Sprintf("s%d", i), ready.Done, func(body []byte) {
				var a struct {
					M []struct {
						D int
						P struct{ T string }
					}
				}
				if err := json.Unmarshal(body, &a); err != nil {
					t.Error(err)
				}
				for _, m := range a.M {
					if seen[m.D] || m.P.T <= last {
						t.Errorf("subscriber %d: message %d twice or out of order", i, m.D)
					}
					seen[m.D], last = true, m.P.T
				}
				if len(seen) == want && len(a.M) > 0 {
					finished <- struct{}{}
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
	ready.Wait()
	for i := range publishers {
		all.Go(func() {
			c, err := dial(l.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for n := range each {
				if _, err := c.roundTrip(wire(fmt.Sprintf("/publish/p/s/0/c%d/0/%d?uuid=u%d&store=0", i, i*each+n, i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	limit := time.After(time.Minute)
	for n := range subscribers {
		select {
		case <-finished:
		case <-limit:
			t.Errorf("only %d of %d subscribers have everything", n, subscribers)
			cancel()
			all.Wait()
			return 0
		}
	}
	cancel()
	all.Wait()
	return subscribers * want
}

// TestEachMessageOnce: 50 publishers and 50 subscribers of several channels each, over HTTP.
func TestEachMessageOnce(t *testing.T) { exactlyOnce(t, 50, 50, 20) }

// BenchmarkFiftyByFifty is the same with more messages; it fails unless each message came exactly once.
func BenchmarkFiftyByFifty(b *testing.B) {
	deliveries := 0
	for b.Loop() {
		deliveries += exactlyOnce(b, 50, 50, 200)
	}
	b.ReportMetric(float64(deliveries)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkWakeUp: how long one publish takes to reach 1,000 subscribers of its channel.
func BenchmarkWakeUp(b *testing.B) {
	const subscribers = 1000
	l := load(b, 100, time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	var all, ready sync.WaitGroup
	ready.Add(subscribers)
	got := make(chan struct{}, subscribers)
	for i := range subscribers {
		all.Go(func() {
			if err := l.follow(ctx, "c", fmt.Sprintf("s%d", i), ready.Done, func([]byte) { got <- struct{}{} }); err != nil {
				b.Error(err)
			}
		})
	}
	ready.Wait()
	var worst, sum time.Duration
	rounds := 0
	busy := cpuTime()
	for b.Loop() {
		l.settled(subscribers)
		begin := time.Now()
		l.space.Publish(pubsub.Publication{Channel: "c", Body: []byte(`"wake"`)})
		for range subscribers {
			<-got
		}
		took := time.Since(begin)
		worst, sum, rounds = max(worst, took), sum+took, rounds+1
	}
	busy = cpuTime() - busy
	cancel()
	all.Wait()
	// What a round costs all cores together, on both sides and with the polls that follow: on a busy machine the times
	// say more about the others.
	b.ReportMetric(float64(busy.Microseconds())/1000/float64(rounds), "cpu-ms")
	b.ReportMetric(0, "ns/op") // includes the wait for the polls to be back
	b.ReportMetric(float64(sum.Microseconds())/1000/float64(rounds), "mean-ms")
	b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// settled waits until n polls are held.
func (l *loaded) settled(n int) {
	for l.space.Stats().Polls < n {
		runtime.Gosched()
	}
}

// idleVariable makes the test binary a server for BenchmarkIdlePolls: its memory alone is measured.
const idleVariable = "BLOCKSD_IDLE_SERVER"

func idleServer() int {
	space, err := pubsub.New(pubsub.Config{SubscribeKey: "s"})
	if err != nil {
		return 1
	}
	s, err := New(Config{Keysets: []Keyset{{PublishKey: "p", Space: space}}})
	if err != nil {
		return 1
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	fmt.Println(l.Addr())
	go func() {
		in := bufio.NewReader(os.Stdin)
		for {
			if _, err := in.ReadString('\n'); err != nil {
				os.Exit(0)
			}
			status, _ := os.ReadFile("/proc/self/status")
			rss := "0"
			for line := range strings.Lines(string(status)) {
				if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
					rss = strings.Fields(v)[0]
				}
			}
			fmt.Println(space.Stats().Polls, rss)
		}
	}()
	_ = http.Serve(l, s)
	return 1
}

// BenchmarkIdlePolls: the memory of the server while 10,000 polls are held, as the system counts it.
func BenchmarkIdlePolls(b *testing.B) {
	const polls = 10_000
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), idleVariable+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Scan()
	addr := lines.Text()
	ask := func() (held, kb int) {
		_, _ = io.WriteString(stdin, "\n")
		lines.Scan()
		_, _ = fmt.Sscan(lines.Text(), &held, &kb)
		return held, kb
	}
	_, before := ask()
	var conns []net.Conn
	for i := range polls {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, c)
		if _, err := c.Write(wire(fmt.Sprintf("/v2/subscribe/s/idle.%d/0?uuid=idle-%d&tt=99999999999999999&heartbeat=300", i, i))); err != nil {
			b.Fatal(err)
		}
	}
	held, kb := ask()
	for held < polls {
		runtime.Gosched()
		held, kb = ask()
	}
	for range b.N { // nothing to repeat
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(kb)/1024, "MB/10000polls")
	b.ReportMetric(float64(kb-before)/polls, "kB/poll")
	for _, c := range conns {
		_ = c.Close()
	}
	_ = stdin.Close()
	_ = cmd.Wait()
}

// TestIdlePollsEnd: 2,000 polls that nothing comes for are answered empty with their cursor, and nothing is left.
func TestIdlePollsEnd(t *testing.T) {
	const polls = 2000
	l := load(t, 100, time.Second)
	var all sync.WaitGroup
	for i := range polls {
		all.Go(func() {
			c, err := dial(l.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			body, err := c.roundTrip(wire(fmt.Sprintf("/v2/subscribe/s/idle.%d,all/0?uuid=idle-%d&tt=17000000000000000", i, i)))
			if want := `{"t":{"t":"17000000000000000","r":1},"m":[]}`; err != nil || string(body) != want {
				t.Errorf("poll got %s, %v", body, err)
			}
		})
	}
	all.Wait()
	for i := range polls {
		l.space.Leave([]string{fmt.Sprintf("idle.%d", i), "all"}, fmt.Sprintf("idle-%d", i))
	}
	if st := l.space.Stats(); st != (pubsub.Stats{}) {
		t.Errorf("left behind: %+v", st)
	}
}
