package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// paid returns the same card with the billing mode paid.
func paid(t testing.TB, c card.Card) card.Card {
	t.Helper()
	raw := strings.TrimSuffix(strings.TrimSpace(string(c.Raw)), "}") + `, "extensions": {"blocks": {"billingMode": "paid", "pricePerTask": "0.10"}}}`
	p, err := card.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// say publishes a control message where the agent is now, as the network would.
func (s *served) say(body string) {
	s.n.t.Helper()
	s.mu.Lock()
	current := s.conn.session
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m := link.Message{Channel: s.channelName(), Body: []byte(body), Meta: fmt.Appendf(nil, `{"instance":%q}`, s.cfg.InstanceID)}
	if _, err := current.link.Publish(ctx, m); err != nil { // the instance may write to its own control channel
		s.n.t.Fatal(err)
	}
}

// TestSwitchEnvironment: the subscription and the presence move to the other keyset, a task that runs stays where it
// began, and what makes no sense changes nothing.
func TestSwitchEnvironment(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	c := cardOf(t, "worker", 4, "")
	a := n.serve(c, st, nil)
	a.await(StateOnline)
	consumer := n.api.NewConsumer(n.sb.APIKey())
	_, before := n.submit(consumer, "worker", text("request", "hi"))
	first := st.next(t)

	for _, body := range []string{
		`{"type":"SwitchEnvironment","environment":"moon","pamToken":"x"}`,
		`{"type":"SwitchEnvironment","environment":"network"}`,
		`{"type":"SwitchEnvironment","environment":"playground","pamToken":"x"}`,
		`{"type":"SwitchEnvironment","environment":"network","pamToken":"x","protocolVersion":"2027-01-01"}`,
	} {
		a.say(body)
	}
	eventually(t, "four messages are ignored", func() bool { return a.Status().Counts.Ignored == 4 })
	if got := a.Status().BillingMode; got != wire.Free {
		t.Fatalf("the agent is %s", got)
	}

	a.move(c)
	_, after := n.send(consumer, backend.SendRequest{AgentName: "worker", BillingMode: wire.Paid, Parts: []wire.Part{text("request", "hi")}})
	second := st.next(t)
	second.result <- nil
	if story, last := ending(t, after); story != "running" || last.State != wire.Completed {
		t.Errorf("paid task: %s, then %s %s", story, last.State, last.Error)
	}
	if err := first.port.Artifact(first.ctx, wire.Artifact{OutputID: "reply", Data: []byte("x")}); err != nil {
		t.Error(err)
	}
	first.result <- nil
	if story, last := ending(t, before); story != "running artifact:inline" || last.State != wire.Completed {
		t.Errorf("free task: %s, then %s %s", story, last.State, last.Error)
	}
}

// move makes the agent of a card a paid one, and waits until it is online in the other environment.
func (a *served) move(c card.Card) {
	t, n := a.n.t, a.n
	t.Helper()
	if err := n.sb.Register(paid(t, c)); err != nil {
		t.Fatal(err)
	}
	grant, err := n.api.NewAgentSession(n.sb.APIKey(), backend.ConnectRequest{
		AgentName: "worker", InstanceID: a.cfg.InstanceID, BillingMode: wire.Paid, ExpectedInstances: 1, Concurrency: 4,
	}).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a.say(fmt.Sprintf(`{"type":"SwitchEnvironment","environment":"network","pamToken":%q,"protocolVersion":%q}`, grant.PAMToken, wire.ProtocolVersion))
	eventually(t, "the agent is online in the other environment", func() bool {
		s := a.Status()
		return s.BillingMode == wire.Paid && s.State == StateOnline
	})
}

// TestCrashAfterSwitch: a task of before a move gets its outcome where it is, whose keyset is not the agent's any more.
func TestCrashAfterSwitch(t *testing.T) {
	n, st, dir := newNetwork(t, false), newStage(), t.TempDir()
	f := n.fault()
	c := cardOf(t, "worker", 4, "")
	a := n.serve(c, st, both(both(n.through(f), dying), withJournal(openJournal(t, dir))))
	a.await(StateOnline)
	consumer := n.api.NewConsumer(n.sb.APIKey())
	sent, err := consumer.SendMessage(t.Context(), backend.SendRequest{AgentName: "worker", BillingMode: wire.Free, Parts: []wire.Part{text("request", "hi")}})
	if err != nil {
		t.Fatal(err)
	}
	call := st.next(t)
	defer func() { call.result <- nil }()
	a.move(c)
	f.set(cut)
	b := n.serve(paid(t, c), newStage(), withJournal(openJournal(t, photograph(t, dir))))
	b.await(StateOnline)
	if got := b.Status().BillingMode; got != wire.Paid {
		t.Errorf("the agent is %s", got)
	}
	eventually(t, "the outbox is empty", func() bool { return b.Status().Counts.Outbox == 0 })
	if got := n.terminals(sent.ReadToken, sent.Channel); len(got) != 1 || got[0] != "failed "+lostText {
		t.Errorf("terminals %q", got)
	}
}

// TestBillingModeChanged: an agent that the network refuses because its billing mode is another by now follows it.
func TestBillingModeChanged(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	c := cardOf(t, "worker", 4, "")
	a := n.serve(c, st, n.through(f))
	a.await(StateOnline)
	if err := n.sb.Register(paid(t, c)); err != nil {
		t.Fatal(err)
	}
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		return isSubscribe(r) && strings.Contains(r.URL.Path, n.cdm.Playground.SubscribeKey) && refuse(w, http.StatusForbidden)
	})
	a.say(`{"type":"CancelTask","taskId":"nobody"}`) // ends the poll that is held
	eventually(t, "the agent is online in the other environment", func() bool {
		s := a.Status()
		return s.BillingMode == wire.Paid && s.State == StateOnline
	})
	_, events := n.send(n.api.NewConsumer(n.sb.APIKey()), backend.SendRequest{AgentName: "worker", BillingMode: wire.Paid, Parts: []wire.Part{text("request", "hi")}})
	st.next(t).result <- nil
	if _, last := ending(t, events); last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
}

// shifted is a clock that a test moves.
type shifted struct{ by atomic.Int64 }

func (s *shifted) now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

// TestTokenRenewedAhead: an idle agent gets a new token before the old one ends, without being refused first, and goes on
// from where it was; one that the network does not renew is not asked for at every look.
func TestTokenRenewedAhead(t *testing.T) {
	network, agent := &shifted{}, &shifted{}
	agent.by.Store(int64(-time.Hour)) // wrong, and corrected by the network's clock
	n, st := newNetworkWith(t, false, sandbox.Config{Now: network.now}), newStage()
	f := n.fault()
	var (
		denied, connects atomic.Int32
		polls            atomic.Pointer[string] // with which token the newest poll came
	)
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/api/v1/auth/agent/connect" {
			connects.Add(1)
		}
		if isSubscribe(r) {
			token := r.URL.Query().Get("auth")
			polls.Store(&token)
		}
		return false
	})
	a := n.serve(cardOf(t, "worker", 4, ""), st, func(c *Config) {
		n.through(f)(c)
		c.Now = agent.now
		c.Timeouts.Token, c.Timeouts.Clock = 2*time.Millisecond, 2*time.Millisecond
		c.Log = slog.New(&counter{Handler: slog.DiscardHandler, text: "subscription denied", count: &denied})
	})
	a.await(StateOnline)
	first := a.token()
	advance := func(d time.Duration) {
		network.by.Add(int64(d))
		agent.by.Add(int64(d))
	}
	advance(12 * time.Hour) // half of its life: the sandbox would give a new one
	eventually(t, "the clock was read again", func() bool { return a.offset() > 59*time.Minute })
	if got := connects.Load(); got != 1 {
		t.Errorf("%d connects although half of the token's life is left", got)
	}
	advance(10 * time.Hour)
	eventually(t, "the token is renewed", func() bool { return a.token() != first })
	// On a real network the last poll with the first token is over long before that token ends.
	a.say(`{"type":"CancelTask","taskId":"nobody"}`) // ends the poll that is held
	eventually(t, "the agent polls with the new token", func() bool { return *polls.Load() == a.token() })
	advance(3 * time.Hour) // past the end of the first
	_, events := n.submit(n.api.NewConsumer(n.sb.APIKey()), "worker", text("request", "hi"))
	st.next(t).result <- nil
	if _, last := ending(t, events); last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
	if got := denied.Load(); got != 0 {
		t.Errorf("the subscription was denied %d times", got)
	}
	if got := connects.Load(); got != 2 {
		t.Errorf("%d connects", got)
	}
}

// counter counts log records with a text.
type counter struct {
	slog.Handler
	text  string
	count *atomic.Int32
	next  bool // also hand records on to Handler
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, c.text) {
		c.count.Add(1)
	}
	if c.next {
		return c.Handler.Handle(ctx, r)
	}
	return nil
}

func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *counter) WithGroup(string) slog.Handler      { return c }

func (s *served) token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.session == nil {
		return ""
	}
	return s.conn.session.link.Token()
}

func (s *served) offset() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.clockOffset
}

// TestSwitchUndone: an agent that was sent to an environment which does not take it comes back.
func TestSwitchUndone(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var away atomic.Int32
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if isSubscribe(r) && strings.Contains(r.URL.Path, n.cdm.Network.SubscribeKey) {
			away.Add(1)
		}
		return false
	})
	a := n.serve(cardOf(t, "worker", 4, ""), st, n.through(f))
	a.await(StateOnline)
	a.say(`{"type":"SwitchEnvironment","environment":"network","pamToken":"x"}`)
	eventually(t, "the agent is back", func() bool {
		s := a.Status()
		return away.Load() > 0 && s.BillingMode == wire.Free && s.State == StateOnline
	})
	_, events := n.submit(n.api.NewConsumer(n.sb.APIKey()), "worker", text("request", "hi"))
	st.next(t).result <- nil
	if _, last := ending(t, events); last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
}
