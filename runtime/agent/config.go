package agent

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/calls"
	"github.com/blocksd/blocksd/runtime/journal"
)

// Slots is a limit on running tasks that several agents share.
type Slots interface {
	// TryAcquire takes a slot if one is free. It never blocks.
	TryAcquire() bool
	Release()
}

// Config of an Agent.
type Config struct {
	// Card says what the agent is. A program may change its Concurrency, ExpectedInstances, MaxPendingBacklog and
	// MaxRunningTimeSec: the network learns it here, and that wins over the registered card.
	Card card.Card
	// Handler is the name under which the Dispatcher knows what works on the tasks.
	Handler string
	// InstanceID names this instance in the network; empty for that in the journal, else a new one.
	InstanceID string
	APIKey     string
	Backend    *backend.Client
	CDM        backend.CDM
	// Origin is host or host:port of PubNub; Secure asks for TLS.
	Origin string
	Secure bool

	Dispatcher dispatch.Dispatcher
	// Journal keeps tasks and outcomes over a crash. Without one, nil, a crash loses the outcomes of tasks in flight,
	// control messages that were sent meanwhile, and which tasks were done already; and each start is a new instance.
	Journal *journal.Journal
	// Calls gives tasks to other agents, where handlers ask for that; nil when they may not.
	Calls *calls.Pool
	// Slots limits the tasks of all agents together; nil for no such limit.
	Slots Slots
	// Events carries what becomes of the agent and of its tasks to whoever reads it; nil for nobody.
	Events *event.Bus

	// Drain is how long running tasks may go on when the agent stops. 0 cancels them at once.
	Drain time.Duration
	// CancelGrace is how long a handler has after it was asked to end a task; DefaultCancelGrace if 0.
	CancelGrace time.Duration
	// InlineLimit is the largest artifact, in raw bytes, that travels inside its event; wire.DefaultInlineLimit if 0,
	// at most wire.MaxInlineLimit.
	InlineLimit int
	// ArtifactLimit is the largest artifact in bytes; wire.MaxArtifactBytes, the network's own limit, if 0.
	ArtifactLimit int64
	// Version of the program, which the network is given.
	Version string

	Meters Meters
	// Trace gives each task spans of its own, which its event and its handler get. Without it a handler gets those of the
	// caller, if there are any.
	Trace bool
	// TraceRatio is the share of the tasks whose trace begins here that are traced, from 0 to 1. With 0, and Trace, only those
	// are traced whose sender traces them.
	TraceRatio float64

	// OnMoved, which may be nil, is called when the network may be elsewhere by now, so that CDM should be fetched again:
	// it does not know the keys, or nothing has worked for Timeouts.Moved. It is called again as long as that lasts, and
	// must not block.
	OnMoved func()

	// Shared is what the connections of agents to one network have in common; nil for nothing.
	Shared *link.Shared

	// transport carries the requests to PubNub; nil for one of the link's own. For tests.
	transport http.RoundTripper

	Log *slog.Logger // nil to discard
	Now func() time.Time
	// Jitter returns a number in [0,1) to spread retries with; nil for a random one.
	Jitter   func() float64
	Timeouts Timeouts
}

// DefaultCancelGrace is the time that a handler has to end a task when Config does not say.
const DefaultCancelGrace = 5 * time.Second

// Timeouts bound every wait of an agent; a zero member takes the default.
type Timeouts struct {
	// Connect is the longest time for one attempt at the registry or at connecting. Default 30 s.
	Connect time.Duration
	// RetryStart and RetryCap bound the wait between such attempts. Defaults 0.5 s and 30 s.
	RetryStart, RetryCap time.Duration
	// Moved is how long nothing may work before Config.OnMoved is called. Default 30 s.
	Moved time.Duration
	// DrainOpen is how long the network may go on to send tasks to a draining agent after it has acknowledged that this is
	// full. Default 0.5 s.
	DrainOpen time.Duration
	// Leave is how long an explicit leave may take. Default 3 s.
	Leave time.Duration
	// Terminals is how long terminal events may still be on their way when the agent stops, after the cancel grace.
	// Default 10 s.
	Terminals time.Duration
	// CallEnd is how long a handler's call that was ended may take to return when the agent stops. Default 5 s.
	CallEnd time.Duration
	// StreamSetup is how long the network may take to answer a request for a stream. Default 15 s.
	StreamSetup time.Duration
	// StreamOpen is how long the consumer has at least to open a stream that the task writes, before the task is over.
	// Default 1 s.
	StreamOpen time.Duration
	// StreamEnd is how long what was written to a stream may take to be sent when the stream ends. Default 30 s.
	StreamEnd time.Duration
	// InFlight is how long the publish of an artifact that is not wanted any more still has to be answered, before a terminal may
	// overtake it. Default 5 s.
	InFlight time.Duration
	// Refusal is how long the answer to a task that was not accepted is retried. Default 1 min.
	Refusal time.Duration
	// WriteToken is how long a task's write token is taken to be good, thus how long its terminal is retried. The
	// network does not say. Default 24 h.
	WriteToken time.Duration
	// Uncertain is how long the publish of a terminal event may take before the network is asked whether it has ended the
	// task itself. Default wire.PresenceTimeout, after which it may.
	Uncertain time.Duration
	// Spread is the time over which the instances of an agent spread an answer that each of them would give. Default 1 s.
	Spread time.Duration
	// Token is how often the life of the control channel's token is looked at. Default 30 s.
	Token time.Duration
	// Clock is how often the network's clock is read, because the deadlines of pipe tasks are stated in it. Default 1 h.
	Clock time.Duration
	// Heartbeat is the rhythm of heartbeats on the control channel. Default wire.HeartbeatInterval.
	Heartbeat time.Duration
	// Late is how old a StartTask may be before the network is asked whether another instance has the task. Default half
	// of wire.PresenceTimeout, so that clocks need not be exact.
	Late time.Duration
	// Remember is how long the outcome of a task is known, to answer a task that is delivered again. Default 1 h.
	Remember time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&t.Connect, 30 * time.Second},
		{&t.RetryStart, 500 * time.Millisecond},
		{&t.RetryCap, 30 * time.Second},
		{&t.Moved, 30 * time.Second},
		{&t.DrainOpen, 500 * time.Millisecond},
		{&t.Leave, 3 * time.Second},
		{&t.Terminals, 10 * time.Second},
		{&t.CallEnd, 5 * time.Second},
		{&t.StreamSetup, 15 * time.Second},
		{&t.StreamOpen, time.Second},
		{&t.StreamEnd, 30 * time.Second},
		{&t.InFlight, 5 * time.Second}, {&t.Refusal, time.Minute},
		{&t.WriteToken, 24 * time.Hour},
		{&t.Uncertain, wire.PresenceTimeout},
		{&t.Spread, time.Second},
		{&t.Token, 30 * time.Second},
		{&t.Clock, time.Hour},
		{&t.Heartbeat, wire.HeartbeatInterval},
		{&t.Late, wire.PresenceTimeout / 2},
		{&t.Remember, time.Hour},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	return t
}

// backoff is the pause between attempts to reach the network.
func (c Config) backoff() retry.Backoff {
	return retry.Backoff{First: c.Timeouts.RetryStart, Max: c.Timeouts.RetryCap, Jitter: c.Jitter}
}

// check fills in the defaults and returns an error for what cannot be served.
func (c Config) check() (Config, error) {
	name := c.Card.AgentName
	if err := wire.CheckAgentName(name); err != nil {
		return c, fmt.Errorf("serve an agent: %w; set identity.agentName in its card", err)
	}
	switch {
	case c.Card.Concurrency < 1:
		return c, fmt.Errorf("serve agent %s: its card sets runtime.concurrency to %d, which would mean no limit at all; set it to 1 or more",
			name, c.Card.Concurrency)
	case c.Dispatcher == nil || c.Handler == "":
		return c, fmt.Errorf("serve agent %s: no handler is given for it", name)
	case c.Backend == nil || c.Origin == "":
		return c, fmt.Errorf("serve agent %s: no network is given for it", name)
	case c.APIKey == "":
		return c, fmt.Errorf("serve agent %s: no API key is given for it; set BLOCKS_API_KEY", name)
	case c.InlineLimit < 0 || c.InlineLimit > wire.MaxInlineLimit:
		return c, fmt.Errorf("serve agent %s: an inline limit of %d bytes is outside of 0 to %d, above which an artifact does not fit into a message",
			name, c.InlineLimit, wire.MaxInlineLimit)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Jitter == nil {
		c.Jitter = mathrand.Float64
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.InstanceID == "" {
		id, err := uuid.NewRandomFromReader(rand.Reader)
		if err != nil {
			return c, fmt.Errorf("serve agent %s: make an instance id: %w", name, err)
		}
		c.InstanceID = "AG-" + name + "-" + id.String()
	}
	c.Timeouts = c.Timeouts.withDefaults()
	return c, nil
}
