package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/blocksd/blocksd/daemon/roster"
)

// When the end of an API key is announced: the status shows it from the first of these on, the log says it at each.
var keyNotices = []time.Duration{14 * 24 * time.Hour, 3 * 24 * time.Hour, 24 * time.Hour, 0}

// keyEnd is what is known of the end of an API key.
type keyEnd struct {
	agents  []string // that use it
	ends    time.Time
	noticed int // how many of keyNotices have been announced
}

// due returns how many notices are due now. A key without an end has none.
func (k keyEnd) due(now time.Time) int {
	if k.ends.IsZero() {
		return 0
	}
	n := 0
	for _, before := range keyNotices {
		if !now.Before(k.ends.Add(-before)) {
			n++
		}
	}
	return n
}

// detail says when the key ends.
func (k keyEnd) detail(now time.Time) string {
	at := k.ends.UTC().Format(time.RFC3339)
	switch left := k.ends.Sub(now); {
	case left <= 0:
		return "has ended at " + at
	case left < 48*time.Hour:
		return fmt.Sprintf("ends in %d hours, at %s", int(left.Hours()), at)
	default:
		return fmt.Sprintf("ends in %d days, at %s", int(left.Hours()/24), at)
	}
}

// reason is nil while there is nothing to say.
func (k keyEnd) reason(now time.Time) *roster.Reason {
	if k.due(now) == 0 {
		return nil
	}
	return &roster.Reason{Code: roster.KeyEnds, Object: k.of(), Detail: k.detail(now)}
}

// of names the agents that use the key.
func (k keyEnd) of() string {
	if len(k.agents) == 1 {
		return "agent " + k.agents[0]
	}
	return "agents " + strings.Join(k.agents, ", ")
}

// suspects returns which agents of a key the network does not show as online, of those that are online for us.
func suspects(ours []string, shown map[string]int) []string {
	return slices.DeleteFunc(slices.Clone(ours), func(agent string) bool { return shown[agent] > 0 })
}

// doubt is about an agent that the network does not show as online although it takes it. Then its list says nothing, and the
// agent is asked about less and less often.
type doubt struct {
	unfounded int
	notBefore time.Time
}

// maxDoubtPause bounds the pause between two questions about an agent.
const maxDoubtPause = time.Hour

func (d doubt) isDue(now time.Time) bool { return !now.Before(d.notBefore) }

// unconfirmed notes that the network takes the agent.
func (d doubt) unconfirmed(now time.Time, look time.Duration) doubt {
	d.unfounded++
	d.notBefore = now.Add(min(look<<min(d.unfounded, 10), maxDoubtPause))
	return d
}
