package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/runtime/agent"
)

// How often the network is asked about the API keys. An idle agent needs its key for nothing, so without this it would stay
// online for itself while nobody can reach it.
const (
	// keyLook is how often it is asked whether it still takes the agents, so that a refusal is noticed within a minute. It costs
	// one request for each key, not for each agent.
	keyLook = 55 * time.Second
	// firstKeyLook is how long after the network is known the first look is.
	firstKeyLook = time.Second
	// keyEndLook is how often it is asked when a key ends, and thereby whether it is valid at all.
	keyEndLook = 15 * time.Minute
	// keyAnswer bounds one question.
	keyAnswer = 20 * time.Second
)

// keyWatch knows when the API keys in use end. Its zero value is ready.
type keyWatch struct {
	mu   sync.Mutex // guards what follows
	ends map[string]keyEnd
	// asked is when the network was asked about each key.
	asked map[string]time.Time

	// doubts belong to the goroutine that watches.
	doubts map[string]doubt
}

// reasons are what the status says of keys that end soon.
func (w *keyWatch) reasons(now time.Time) (out []roster.Reason) {
	for _, k := range w.all() {
		if r := k.reason(now); r != nil {
			out = append(out, *r)
		}
	}
	return out
}

// all returns the keys in use whose end is known, in order of their agents.
func (w *keyWatch) all() []keyEnd {
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.ends))
	w.mu.Unlock()
	slices.SortFunc(all, func(a, b keyEnd) int { return slices.Compare(a.agents, b.agents) })
	return all
}

// watchKeys asks the network from time to time whether it still takes the agents, and when their keys end, until ctx ends.
func (d *Daemon) watchKeys(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-d.network.known:
	}
	look := d.cfg.KeyLook
	if look == 0 {
		look = keyLook
	}
	for wait := min(firstKeyLook, look); retry.Pause(ctx, wait) == nil; wait = look {
		groups, files := d.keyGroups()
		for _, k := range d.keys.retain(groups) {
			if k.noticed > 0 {
				d.events.Emit(event.Event{
					Type: event.Notice, State: "key_replaced", Reason: fmt.Sprintf("the API key of %s that was about to end is not in use any more", k.of()),
				})
			}
		}
		for key, slots := range groups {
			d.lookAtEnd(ctx, key, files[key], slots)
			if wait == look { // agents that have just come have just been taken
				d.lookAtAgents(ctx, key, slots, look)
			}
		}
	}
}

// keyGroups returns the agents by the API keys that they use, or used before a drain, and a key file for each key.
func (d *Daemon) keyGroups() (groups map[string][]*agentSlot, files map[string]string) {
	groups, files = map[string][]*agentSlot{}, map[string]string{}
	for _, s := range d.served.all() {
		if _, key := s.credentials(); key != "" && !s.isFinal() {
			groups[key] = append(groups[key], s)
			files[key] = s.assignment.KeyFile
		}
	}
	return groups, files
}

// retain forgets keys that are not in use any more, and returns what was known of them.
func (w *keyWatch) retain(groups map[string][]*agentSlot) (gone []keyEnd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, k := range w.ends {
		if groups[key] == nil {
			gone = append(gone, k)
			delete(w.ends, key)
			delete(w.asked, key)
		}
	}
	return gone
}

func names(slots []*agentSlot) (out []string) {
	for _, s := range slots {
		out = append(out, s.name())
	}
	return out
}

// lookAtEnd asks when a key ends, if it is time to, and announces an end that is near.
func (d *Daemon) lookAtEnd(ctx context.Context, key, file string, slots []*agentSlot) {
	w, now := &d.keys, time.Now()
	w.mu.Lock()
	asked, known := w.asked[key]
	k := w.ends[key]
	w.mu.Unlock()
	k.agents = names(slots)
	if !known || now.Sub(asked) >= keyEndLook {
		asking, cancel := context.WithTimeout(ctx, keyAnswer)
		account, err := d.network.get().client.Account(asking, key)
		cancel()
		if err != nil {
			d.cfg.Log.Debug("the network could not be asked when an API key ends", "agents", k.agents, "err", err)
			var e *backend.Error
			if !errors.As(err, &e) || e.Temporary() {
				return // asked again at the next look
			}
			if e.Final() {
				for _, s := range slots {
					if a, _ := s.credentials(); a != nil {
						a.Verify(ctx)
					}
				}
			}
		} else if k.ends = account.KeyExpires; k.ends.IsZero() && d.cfg.KeyExpires != nil {
			k.ends = d.cfg.KeyExpires(file)
		}
		asked = now
	}
	due := k.due(now)
	announce := due > k.noticed
	k.noticed = due // it goes back when the key has got a later end
	w.mu.Lock()
	if w.ends == nil {
		w.ends, w.asked = map[string]keyEnd{}, map[string]time.Time{}
	}
	w.ends[key], w.asked[key] = k, asked
	w.mu.Unlock()
	if r := k.reason(now); announce && r != nil {
		d.events.Emit(event.Event{Type: event.Notice, State: string(roster.KeyEnds), Reason: r.Text(), Level: slog.LevelWarn})
	}
}

// lookAtAgents asks whether the network still takes the agents of a key. One agent is asked about directly. Of several, one
// request shows which are online; only those that are not are asked about.
func (d *Daemon) lookAtAgents(ctx context.Context, key string, slots []*agentSlot, look time.Duration) {
	w, now := &d.keys, time.Now()
	online := map[string]*agent.Agent{}
	for _, s := range slots {
		if a, _ := s.credentials(); a != nil && s.status().State == agent.StateOnline {
			online[s.name()] = a
		}
	}
	ours := slices.Sorted(maps.Keys(online))
	if len(ours) == 1 {
		online[ours[0]].Verify(ctx)
		return
	}
	if len(ours) == 0 {
		return
	}
	shown, err := d.shownOnline(ctx, key)
	if err != nil {
		var e *backend.Error
		if !errors.As(err, &e) || e.Temporary() {
			return // an outage shows elsewhere
		}
		shown = nil // whatever is wrong with the question, the agents know for themselves
	}
	if w.doubts == nil {
		w.doubts = map[string]doubt{}
	}
	for _, name := range suspects(ours, shown) {
		if before := w.doubts[name]; before.isDue(now) && online[name].Verify(ctx) {
			w.doubts[name] = before.unconfirmed(now, look)
		}
	}
	maps.DeleteFunc(w.doubts, func(name string, _ doubt) bool { return shown[name] > 0 })
}

// shownOnline returns how many instances the network shows for each agent of a key's organization.
func (d *Daemon) shownOnline(ctx context.Context, key string) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, keyAnswer)
	defer cancel()
	list, err := d.network.get().client.Agents(ctx, key, backend.AgentQuery{Status: "online", Owned: true})
	if err != nil {
		return nil, err
	}
	shown := map[string]int{}
	for _, a := range list.Agents {
		shown[a.Name] = a.Online
	}
	return shown, nil
}
