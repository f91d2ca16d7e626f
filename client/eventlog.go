package client

// eventLog is what is known of a task's events: each of them once, in the order of the network, up to the first terminal
// event. It is pure.
//
// Events come from history and from the subscription, whose pieces overlap: after an outage history is read from the last
// event on, and the subscription repeats what it had not delivered.
type eventLog struct {
	events []Event
	seen   map[string]struct{} // the timetokens
	// cursor is the newest timetoken, also of what is no event; "" for none.
	cursor          string
	cancelRequested bool
	ended           bool
}

// see notes a timetoken and reports whether it is new.
func (l *eventLog) see(timetoken string) bool {
	if timetoken == "" {
		return true
	}
	if _, ok := l.seen[timetoken]; ok {
		return false
	}
	if l.seen == nil {
		l.seen = make(map[string]struct{})
	}
	l.seen[timetoken] = struct{}{}
	if later(timetoken, l.cursor) {
		l.cursor = timetoken
	}
	return true
}

// add appends an event unless it is known, and reports whether it did. Nothing follows the terminal event. A second
// request to cancel says nothing new.
func (l *eventLog) add(e Event) bool {
	if l.ended || !l.see(e.Timetoken) {
		return false
	}
	switch e.Type {
	case EventTerminal:
		l.ended = true
	case EventCancelRequested:
		if l.cancelRequested {
			return false
		}
		l.cancelRequested = true
	}
	l.events = append(l.events, e)
	return true
}

// later compares timetokens, which are decimal numbers.
func later(a, b string) bool {
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}

// end is the terminal event, if it is known.
func (l *eventLog) end() (Terminal, bool) {
	if !l.ended {
		return Terminal{}, false
	}
	return l.events[len(l.events)-1].terminal(), true
}
