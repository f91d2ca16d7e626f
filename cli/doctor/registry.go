package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
)

// registry compares the cards of the agents that the daemon would serve with the registered ones, one result for each.
func registry(ctx context.Context, w *world) []Result {
	cards := w.cards()
	if len(cards) == 0 {
		return []Result{skip("put a handler with its card into a plugins directory, or name a card in the configuration", "there is no card of an agent to compare")}
	}
	net, err := w.reach(ctx)
	if err != nil {
		return []Result{skip("see the check cdm", "the registry could not be asked about %s", plural(len(cards), "agent"))}
	}
	var out []Result
	for _, c := range cards {
		if c.err != nil {
			out = append(out, fail("correct it: blocksd check "+shell.Word(c.path), "the card %s cannot be used: %s", c.path, sentence(c.err)))
			continue
		}
		f, err := w.findKey(c.keyFile)
		if err != nil {
			out = append(out, skip("see the check key", "agent %s could not be looked up without an API key", c.card.AgentName))
			continue
		}
		entry, err := net.api.Agent(ctx, f.Key, c.card.AgentName)
		var account backend.Account
		if err == nil {
			account, err = w.accountOf(ctx, f.Key)
		}
		if e, ok := errors.AsType[*backend.Error](err); ok && e.Final() {
			out = append(out, skip("see the check key", "agent %s could not be looked up with this API key", c.card.AgentName))
			continue
		}
		out = append(out, aboutEntry(c.path, c.card, entry, account.OrgID, err))
	}
	return out
}

// served is a card that the daemon would serve.
type served struct {
	path, keyFile string
	card          card.Card
	err           error
}

// cards are those of the configuration and those beside programs in the plugins directories.
func (w *world) cards() (out []served) {
	add := func(path, keyFile string) {
		c, err := card.Load(path)
		if err == nil && slices.ContainsFunc(out, func(s served) bool { return s.card.AgentName == c.AgentName }) {
			return
		}
		out = append(out, served{path, keyFile, c, err})
	}
	for _, a := range w.settings.Agents {
		add(a.Card, a.KeyFile)
	}
	for _, dir := range w.settings.Plugins.Dirs {
		found, _ := w.scan(dir)
		for _, f := range found {
			if f.CardPath != "" && (w.settings.Plugins.Autoload || w.named(f.Name)) {
				add(f.CardPath, "")
			}
		}
	}
	return out
}

// named reports whether a handler is in the configuration.
func (w *world) named(handler string) bool {
	for _, h := range w.settings.Handlers {
		if h.Name == handler {
			return true
		}
	}
	return false
}

// aboutEntry is about one agent: its card here, and its entry in the registry as err lets us know it.
func aboutEntry(path string, c card.Card, entry backend.Agent, orgID string, err error) Result {
	register := "blocksd register " + shell.Word(path)
	switch {
	case errors.Is(err, backend.ErrNotFound):
		return fail(register, "agent %s is not registered, or not for this API key", c.AgentName)
	case err != nil:
		return warn("try again later", "agent %s could not be looked up: %s", c.AgentName, sentence(err))
	case orgID != "" && entry.OrgID != "" && entry.OrgID != orgID:
		return fail("give the card another agentName, or use an API key of that organization",
			"agent %s belongs to %s", c.AgentName, cmp.Or(entry.OrgName, "another organization"))
	}
	registered, err := card.Parse(entry.Card)
	if err != nil {
		return warn(register, "the registered card of agent %s cannot be read: %s", c.AgentName, sentence(err))
	}
	if different := drift(c.Raw, registered.Raw); len(different) > 0 {
		return warn(register, "the card of agent %s differs from the registered one in %s", c.AgentName, some(different))
	}
	return ok("agent %s is registered with this card: %s, %s", c.AgentName, entry.Listing, entry.BillingMode)
}

// drift returns the JSON pointers at which two cards differ.
func drift(local, registered json.RawMessage) []string {
	var a, b any
	if json.Unmarshal(local, &a) != nil || json.Unmarshal(registered, &b) != nil {
		return []string{"/"}
	}
	return differences("", a, b)
}

func differences(at string, a, b any) (out []string) {
	x, okX := a.(map[string]any)
	y, okY := b.(map[string]any)
	if !okX || !okY {
		if reflect.DeepEqual(a, b) {
			return nil
		}
		return []string{cmp.Or(at, "/")}
	}
	keys := slices.Sorted(maps.Keys(x))
	for k := range y {
		if _, both := x[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		v, inX := x[k]
		u, inY := y[k]
		if !inX || !inY {
			out = append(out, at+"/"+k)
			continue
		}
		out = append(out, differences(at+"/"+k, v, u)...)
	}
	return out
}

// some names the first of many.
func some(all []string) string {
	const few = 3
	if len(all) <= few {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:few], ", "), len(all)-few)
}

// plural is a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
