package agent

import "time"

// logEvery is the shortest time between two log records of the same kind.
const logEvery = time.Minute

// throttle lets one log record of each kind through per logEvery and counts the others. The kinds are ours, so there
// are few. It is not safe for concurrent use; its zero value is ready.
type throttle struct {
	kinds map[string]*throttledKind
}

type throttledKind struct {
	last time.Time
	held int
}

// allow reports whether to log, and how many records of this kind were held back since the last one.
func (t *throttle) allow(kind string, now time.Time) (held int, ok bool) {
	n := t.kinds[kind]
	if n == nil {
		if t.kinds == nil {
			t.kinds = map[string]*throttledKind{}
		}
		n = &throttledKind{last: now.Add(-logEvery)}
		t.kinds[kind] = n
	}
	if now.Sub(n.last) < logEvery {
		n.held++
		return 0, false
	}
	held, n.held, n.last = n.held, 0, now
	return held, true
}
