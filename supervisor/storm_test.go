package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// What tasks do in a storm: those that can succeed, those that cannot, and those that take their process with them.
var (
	stormGood  = []string{"none", "status-flood 30", "publish 10", "artifact 300000"}
	stormBad   = []string{"error so", "no-result", "panic", "hang", "slow-cancel 20ms"}
	stormFatal = []string{"kill", "exit 3", "ignore-cancel"}
)

// Tasks of all kinds, ended in every way at random moments, have one outcome each, which says what happened; their ports are
// not used behind it, and their slots are free again. STORM is how long, such as 30s.
func TestStorm(t *testing.T) {
	long := 500 * time.Millisecond
	if d, err := time.ParseDuration(os.Getenv("STORM")); err == nil {
		long = d
	}
	t.Run("calm processes", func(t *testing.T) {
		t.Parallel()
		(&storm{T: t, texts: slices.Concat(stormGood, stormBad), letGo: 2 * patience}).rage(long)
	})
	t.Run("dying processes", func(t *testing.T) {
		t.Parallel()
		(&storm{T: t, texts: slices.Concat(stormGood, stormBad, stormFatal), letGo: 100 * time.Millisecond, dying: true}).rage(long)
	})
}

type storm struct {
	*testing.T
	fleet *Fleet
	texts []string
	letGo time.Duration
	dying bool // processes may end
}

func (s *storm) rage(long time.Duration) {
	policy := unit.Policy{MaxRestarts: 1 << 30, MaxDelay: time.Millisecond}
	handlers := []HandlerConfig{
		{Name: "plain", Path: plugins.Path(s, "badhandler"), Restart: policy, Instances: 2, Concurrency: 6},
		{Name: "idempotent", Path: plugins.Path(s, "badhandler"), Restart: policy, Instances: 2, ProcessConcurrency: 3, Idempotent: true},
	}
	s.fleet = fleet(s, Config{Handlers: handlers, Hold: patience, Timeouts: Timeouts{LetGo: s.letGo, ExitDrain: 5 * time.Millisecond}})
	for _, h := range handlers {
		become(s, s.fleet, h.Name, dispatch.Available)
	}
	var tasks sync.WaitGroup
	slots := make(chan struct{}, 20) // more than the handlers take
	for i, end := 0, time.Now().Add(long); time.Now().Before(end); i++ {
		slots <- struct{}{}
		tasks.Go(func() {
			defer func() { <-slots }()
			s.one(fmt.Sprint("t", i), handlers[rand.IntN(len(handlers))].Name)
		})
	}
	tasks.Wait()
	for _, c := range handlers {
		h := s.fleet.get(c.Name)
		eventually(s, c.Name+" has no task", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			waiting, running := h.queue.Len()
			return waiting == 0 && running == 0 && h.users == 0
		})
	}
	if left := len(s.fleet.tasks.tasks); left > 0 {
		s.Errorf("%d tasks are not forgotten", left)
	}
}

// one gives a task to a handler and ends it in some way after some time, if it does not end before.
func (s *storm) one(id, handler string) {
	text := s.texts[rand.IntN(len(s.texts))]
	task := request(id, text)
	if rand.IntN(3) == 0 {
		task.Kind = wire.Pipe
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := &stormPort{storm: s, slow: time.Duration(rand.IntN(20)) * time.Millisecond, end: cancel, done: make(chan struct{})}
	go s.fleet.Start(ctx, handler, task, p, func(err error) {
		if p.over.Swap(true) {
			s.Errorf("%s %q has another outcome: %v", id, text, err)
			return
		}
		if n := p.uses.Load(); n != 0 {
			s.Errorf("%s %q has its outcome while its port is used", id, text)
		}
		p.outcome, p.ended = err, ctx.Err() != nil
		close(p.done)
	})
	p.wait(time.Duration(rand.ExpFloat64() * float64(5*time.Millisecond)))
	asked := false
	switch pid := p.pid.Load(); rand.IntN(5) {
	case 0:
		if s.dying && pid != 0 {
			_ = unix.Kill(int(pid), syscall.SIGKILL)
		}
		p.wait(50 * time.Millisecond)
	case 1:
		asked = true
		_ = s.fleet.CancelTask(ctx, id, dispatch.CancelUser, s.letGo)
		p.wait(50 * time.Millisecond)
	case 2:
	default:
		p.wait(time.Duration(rand.IntN(200)) * time.Millisecond)
	}
	cancel()
	within(s, id+" "+text+" ends", p.done)
	var f *dispatch.TaskFailure
	switch err := p.outcome; {
	case err == nil && !slices.Contains(stormGood, text):
		s.Errorf("%s %q succeeds", id, text)
	case err == nil && task.Kind == wire.Pipe && !p.ended:
		s.Errorf("%s %q ends with the result, but it is a pipe task", id, text)
	case err == nil:
	case !errors.As(err, &f) || errors.As(err, new(*plug.Unsent)):
		s.Errorf("%s %q: %T %v", id, text, err, err)
	case f.Kind == dispatch.CallEnded && !p.ended && !asked,
		f.Kind == dispatch.HandlerCrash && !s.dying,
		f.Kind == dispatch.NoProcess,
		f.Kind == dispatch.HandlerSilent && text != "no-result" && text != "panic",
		f.Kind == dispatch.HandlerError && !asked && slices.Contains(stormGood, text) && !p.ended:
		s.Errorf("%s %q on %s: %v", id, text, handler, err)
	}
}

// stormPort keeps pipe tasks, and notices when it is used behind the outcome.
type stormPort struct {
	dispatch.NoStreams
	*storm
	slow time.Duration // of artifacts
	end  context.CancelFunc
	pid  atomic.Int64

	uses    atomic.Int64 // that go on
	over    atomic.Bool
	done    chan struct{} // closed when there is an outcome
	outcome error
	ended   bool // its context, before the outcome
}

func (p *stormPort) wait(d time.Duration) {
	select {
	case <-p.done:
	case <-time.After(d):
	}
}

func (p *stormPort) use(what string) (end func()) {
	p.uses.Add(1)
	if p.over.Load() {
		p.Errorf("%s behind the outcome", what)
	}
	return func() { p.uses.Add(-1) }
}

func (p *stormPort) Dispatched(pid int) {
	defer p.use("dispatched")()
	p.pid.Store(int64(pid))
}

func (p *stormPort) Status(string) { p.use("status")() }

func (p *stormPort) Artifact(ctx context.Context, _ wire.Artifact) error {
	defer p.use("artifact")()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(p.slow):
		return nil
	}
}

func (p *stormPort) Input(context.Context, int) (dispatch.Input, error) {
	return dispatch.Input{}, errors.New("it has none")
}

func (p *stormPort) Detached() bool {
	defer p.use("detached")()
	return true
}

func (p *stormPort) End(*dispatch.TaskFailure) error {
	defer p.use("end")()
	p.end()
	return nil
}
