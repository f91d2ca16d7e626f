package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const (
	// manyWatchers read the events of the daemon; one more is stuck: it has asked, and takes nothing.
	manyWatchers = 50
	// watchedRounds alternate with rounds that nobody watches, so that both have the same machine.
	watchedRounds = 5
	// Tasks of a round: one after the other, and with 16 in flight.
	watchedSingle, watchedMany = 300, 3000
)

// watchedCosts are the tasks of a daemon alone and of one with watchers.
type watchedCosts struct {
	alone, watched watchedRound // the medians over all rounds
	events         int64        // messages that the watchers got
}

type watchedRound struct {
	first, cpu time.Duration // request stored → running stored, 1 in flight, p50; processor time of the daemon per task
	perSecond  float64       // with 16 in flight
}

func measureWatchers(bin, work string) (*watchedCosts, error) {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	if err := preparePlugins(bin, filepath.Join(work, "plugins")); err != nil {
		return nil, err
	}
	net, err := startNetwork(bin, work, "watchers.env")
	if err != nil {
		return nil, err
	}
	defer net.stop()
	state := filepath.Join(work, "state")
	d := &daemon{blocksd: filepath.Join(bin, "blocksd"), socket: filepath.Join(state, "s")}
	d.process, err = start(work, append(net.env, "LOG_LEVEL=warn"), d.blocksd, "run", "--plugins", filepath.Join(work, "plugins"), "--state-dir", state, "--socket", d.socket)
	if err != nil {
		return nil, err
	}
	defer d.stop()
	if _, err := net.task(time.Minute); err != nil { // waits until the provider serves
		return nil, fmt.Errorf("%w; the daemon said: %s", err, d.output)
	}
	var alone, watched []watchedRound
	var events atomic.Int64
	for range watchedRounds {
		round, err := net.round(d)
		if err != nil {
			return nil, err
		}
		alone = append(alone, round)
		leave, err := d.watch(&events)
		if err == nil {
			round, err = net.round(d)
			leave()
		}
		if err != nil {
			return nil, err
		}
		watched = append(watched, round)
	}
	// Events gather for as long as there are many watchers, so a message holds hundreds of them.
	if events.Load() < 2*manyWatchers*watchedRounds {
		return nil, fmt.Errorf("the watchers got only %d messages", events.Load())
	}
	return &watchedCosts{median(alone), median(watched), events.Load()}, nil
}

// median takes the median of each value.
func median(rounds []watchedRound) watchedRound {
	var first, cpu []time.Duration
	var rate []float64
	for _, r := range rounds {
		first, cpu, rate = append(first, r.first), append(cpu, r.cpu), append(rate, r.perSecond)
	}
	slices.Sort(rate)
	return watchedRound{quantile(first, .50), quantile(cpu, .50), rate[len(rate)/2]}
}

// round sends the tasks of one round.
func (n *network) round(d *daemon) (r watchedRound, err error) {
	before, err := d.cpu()
	if err != nil {
		return r, err
	}
	var first []time.Duration
	for range watchedSingle {
		t, err := n.task(time.Minute)
		if err != nil {
			return r, err
		}
		first = append(first, t.running-t.request)
	}
	r.first = quantile(first, .50)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	began := time.Now()
	for range 16 {
		all.Go(func() {
			for next.Add(1) <= watchedMany && failed.Load() == nil {
				if _, err := n.result(time.Minute); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	r.perSecond = watchedMany / time.Since(began).Seconds()
	if err := failed.Load(); err != nil {
		return r, *err
	}
	after, err := d.cpu()
	r.cpu = (after - before) / (watchedSingle + watchedMany)
	return r, err
}

// watch follows the events with as many connections as there are watchers, and with one that takes nothing. What arrives is
// counted and not decoded, because the watchers share the machine.
func (d *daemon) watch(events *atomic.Int64) (leave func(), err error) {
	request, err := proto.Marshal(&controlv1.EventsRequest{Follow: true, Last: 1})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var conns []*grpc.ClientConn
	leave = func() {
		cancel()
		for _, c := range conns {
			c.Close()
		}
		all.Wait()
	}
	for i := range manyWatchers + 1 {
		c, err := grpc.NewClient("unix:"+d.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(undecoded{})))
		if err != nil {
			leave()
			return nil, err
		}
		conns = append(conns, c)
		stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, controlv1.ControlService_Events_FullMethodName)
		var raw []byte
		if err == nil {
			err = stream.SendMsg(request)
		}
		if err == nil {
			err = stream.CloseSend()
		}
		if err == nil {
			err = stream.RecvMsg(&raw) // it is being served
		}
		if err != nil {
			leave()
			return nil, fmt.Errorf("follow the events: %w", err)
		}
		if i == 0 {
			continue // the one that is stuck
		}
		all.Go(func() {
			for stream.RecvMsg(&raw) == nil {
				events.Add(1)
			}
		})
	}
	return leave, nil
}

// undecoded leaves messages as they are.
type undecoded struct{}

func (undecoded) Name() string                       { return "proto" }
func (undecoded) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (undecoded) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }

func (c *watchedCosts) report() {
	row := func(what, unit, budget string, alone, watched, ratio float64) {
		fmt.Printf("%-51s %10.4g %10.4g %-8s budget %-14s ratio %.2f\n", what, alone, watched, unit, budget, ratio)
	}
	fmt.Printf("%-51s %10s %10s\n", fmt.Sprintf("tasks while %d watch the events and one is stuck", manyWatchers), "alone", "watched")
	row("request stored → first publish, p50, 1 in flight", "ms", "no effect", ms(c.alone.first), ms(c.watched.first), float64(c.watched.first)/float64(c.alone.first))
	row("tasks per second, 16 in flight, with the watchers'", "1/s", "no effect", c.alone.perSecond, c.watched.perSecond, c.watched.perSecond/c.alone.perSecond)
	row("CPU of the daemon per task", "ms", "no effect", ms(c.alone.cpu), ms(c.watched.cpu), float64(c.watched.cpu)/float64(c.alone.cpu))
}
