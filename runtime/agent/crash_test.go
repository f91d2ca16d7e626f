package agent

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// terminals returns the terminal events of a task, in short form, as its consumer sees them.
func (n *network) terminals(token, channel string) []string {
	n.t.Helper()
	reader, err := link.New(link.Config{Origin: n.cdm.PubNubOrigin, Keys: n.cdm.Playground, UserID: "reader"})
	if err != nil {
		n.t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stored, err := reader.History(ctx, channel, token, "")
	if err != nil {
		n.t.Fatal(err)
	}
	var all []string
	for _, s := range stored {
		if e, err := wire.DecodeEvent(s.Body); err == nil && e.Type == wire.EventTerminal {
			all = append(all, strings.TrimSpace(fmt.Sprint(e.State, " ", e.Error)))
		}
	}
	return all
}

// TestCrash goes through the moments at which an agent can crash, with and without the right to ask the network.
func TestCrash(t *testing.T) {
	const lost = "failed " + lostText
	for _, network := range []struct {
		name string
		cfg  sandbox.Config
		// asks: the network can be asked what became of a task.
		asks bool
	}{
		{"channel readable", sandbox.Config{}, true},
		{"table readable", sandbox.Config{Blocks: switches.Blocks{NoWriterRead: true}}, true},
		{"channel readable, table not", sandbox.Config{Blocks: switches.Blocks{NoAgentGetTask: true}}, true},
		{"nothing readable", sandbox.Config{Blocks: switches.Blocks{NoWriterRead: true, NoAgentGetTask: true}}, false},
	} {
		for _, moment := range []struct {
			name string
			// decided: the outcome is durable; published: the network has it.
			decided, published bool
			want               []string
			// wantBlind is what comes of it when the network cannot be asked.
			wantBlind []string
		}{
			{"while it runs", false, false, []string{lost}, []string{lost}},
			{"before the publish", true, false, []string{"completed"}, []string{"completed"}},
			{"after the publish", true, true, []string{"completed"}, []string{"completed", "completed"}},
		} {
			t.Run(network.name+"/"+moment.name, func(t *testing.T) {
				t.Parallel()
				n, st := newNetworkWith(t, false, network.cfg), newStage()
				f := n.fault()
				dir := t.TempDir()
				a := n.serve(cardOf(t, "worker", 4, ""), st, both(both(n.through(f), dying), withJournal(openJournal(t, dir))))
				a.await(StateOnline)
				c := n.api.NewConsumer(n.sb.APIKey())
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				sent, err := c.SendMessage(ctx, backend.SendRequest{AgentName: "worker", BillingMode: wire.Free, Parts: []wire.Part{text("request", "hi")}})
				if err != nil {
					t.Fatal(err)
				}
				call := st.next(t)
				follow := n.follow(sent)
				for e := next(t, follow); e.State != wire.Running; e = next(t, follow) {
				}
				var held atomic.Int32
				if moment.decided {
					release := make(chan struct{})
					f.set(func(w http.ResponseWriter, r *http.Request) bool {
						if !isPublish(r) {
							return false
						}
						if held.Add(1) == 1 {
							<-release // the outcome is durable
						}
						return !moment.published && cut(w, r)
					})
					call.result <- nil
					eventually(t, "the outcome is on its way", func() bool { return held.Load() > 0 })
					dir = photograph(t, dir)
					close(release)
					if moment.published {
						for e := next(t, follow); e.Type != wire.EventTerminal; e = next(t, follow) {
						}
					}
					f.set(cut)
				} else {
					f.set(cut)
					dir = photograph(t, dir)
					defer func() { call.result <- nil }()
				}

				b := n.serve(cardOf(t, "worker", 4, ""), newStage(), withJournal(openJournal(t, dir)))
				if b.cfg.InstanceID != a.cfg.InstanceID {
					t.Errorf("instance %s goes on as %s", a.cfg.InstanceID, b.cfg.InstanceID)
				}
				if got := b.Status().Counts.Outbox; got > 1 {
					t.Errorf("outbox %d", got)
				}
				eventually(t, "the outbox is empty", func() bool { return b.Status().Counts.Outbox == 0 })
				want := moment.want
				if !network.asks {
					want = moment.wantBlind
				}
				if got := n.terminals(sent.ReadToken, sent.Channel); strings.Join(got, "; ") != strings.Join(want, "; ") {
					t.Errorf("terminals %q, want %q", got, want)
				}
			})
		}
	}
}

// TestCrashAfterCancel: a task that was asked to end when the daemon crashed ends as it would have: it was not lost.
func TestCrashAfterCancel(t *testing.T) {
	later := fmt.Sprintf(`,"taskKind":"pipe","duration":60,"durationExpiresAtMs":%d`, time.Now().Add(time.Hour).UnixMilli())
	for _, tc := range []struct {
		name, more string
		order      wire.ControlType
		want       string
	}{
		{"canceled", "", wire.TypeCancelTask, "running canceled"},
		{"terminated", "", wire.TypeTerminateTask, "running canceled:terminated"},
		{"expired", later, wire.TypeExpireTask, "running completed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, st, dir := newNetwork(t, true), newStage(), t.TempDir()
			f := n.fault()
			a := n.serve(cardOf(t, "worker", 4, ""), st, both(both(n.through(f), dying), func(c *Config) {
				c.Journal, c.CancelGrace = openJournal(t, dir), patience
			}))
			a.await(StateOnline)
			a.control(startTask("t1", tc.more))
			call := st.next(t)
			n.awaitRunning("t1")
			a.control(fmt.Sprintf(`{"type":%q,"taskId":"t1"}`, tc.order))
			call.asked(t)
			away := photographWhen(t, dir, "the cancel is on the disk", func(b *journal.AgentJournal) bool {
				open, err := b.Open()
				return err == nil && len(open) == 1 && open[0].Outcome != nil
			})
			f.set(cut)
			b := n.serve(cardOf(t, "worker", 4, ""), newStage(), withJournal(openJournal(t, away)))
			n.terminal("t1")
			eventually(t, "the outbox is empty", func() bool { return b.Status().Counts.Outbox == 0 })
			n.same("t1", tc.want)
			f.set(nil) // lets the first agent end
			call.result <- nil
		})
	}
}

// TestCrashAroundRunning: the journal does not know whether running was published, and need not: it is not published
// again, and a terminal event without it is a whole story, as that of a refused task.
func TestCrashAroundRunning(t *testing.T) {
	for _, tc := range []struct {
		name string
		// arrives: the network has the event, but its answer was lost.
		arrives bool
		want    string
	}{{"before it", false, "failed:" + lostText}, {"its answer was lost", true, "running failed:" + lostText}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, st, dir := newNetwork(t, true), newStage(), t.TempDir()
			f := n.fault()
			a := n.serve(cardOf(t, "worker", 4, ""), st, both(both(n.through(f), dying), withJournal(openJournal(t, dir))))
			a.await(StateOnline)
			own, err := link.New(link.Config{Origin: n.cdm.PubNubOrigin, Keys: n.cdm.Playground, UserID: a.cfg.InstanceID})
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			arrive := sync.OnceFunc(func() { n.storeBy(own, "t1", wire.RunningEvent("t1")) })
			f.set(func(w http.ResponseWriter, r *http.Request) bool {
				if isPublish(r) && tc.arrives {
					arrive()
				}
				return isPublish(r) && cut(w, r)
			})
			a.control(startTask("t1", ""))
			call := st.next(t)
			defer func() { call.result <- nil }()
			if tc.arrives {
				n.awaitRunning("t1")
			}
			f.set(cut)
			away := photographWhen(t, dir, "the acceptance is on the disk", func(b *journal.AgentJournal) bool {
				open, err := b.Open()
				return err == nil && len(open) == 1
			})
			b := n.serve(cardOf(t, "worker", 4, ""), newStage(), withJournal(openJournal(t, away)))
			n.terminal("t1")
			eventually(t, "the outbox is empty", func() bool { return b.Status().Counts.Outbox == 0 })
			n.same("t1", tc.want)
		})
	}
}
