package client

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/network/wire"
)

// script of a log: what comes in is one word per event, its time and its kind; what is expected is what it holds then.
func TestEventLog(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"in order", "1p 2a 3t", "1p 2a 3t"},
		{"repeated", "1p 1p 2a 1p 2a 3t 3t", "1p 2a 3t"},
		{"after the end", "1p 2t 3p 4t", "1p 2t"},
		{"before the end, but later", "1p 3t 2p", "1p 3t"},
		{"two requests to cancel", "1c 2p 3c 4t", "1c 2p 4t"},
		{"no events", "1- 2p 3-", "2p"},
		{"an end without a time", "1p 0t", "1p 0t"},
	} {
		var l eventLog
		for _, word := range strings.Fields(c.in) {
			addWord(&l, word)
		}
		if got := wordsOf(&l); got != c.want {
			t.Errorf("%s: %s becomes %s, want %s", c.name, c.in, got, c.want)
		}
	}
}

var kindsOf = map[string]EventType{"p": EventProgress, "a": EventArtifact, "c": EventCancelRequested, "t": EventTerminal}

func addWord(l *eventLog, word string) {
	at, kind := word[:len(word)-1], word[len(word)-1:]
	if kind == "-" {
		l.see(at)
		return
	}
	e := Event{Event: wire.Event{Type: kindsOf[kind]}, Timetoken: at}
	if at == "0" {
		e.Timetoken = ""
	}
	l.add(e)
}

func wordsOf(l *eventLog) string {
	var out []string
	for _, e := range l.events {
		at := e.Timetoken
		if at == "" {
			at = "0"
		}
		for letter, kind := range kindsOf {
			if kind == e.Type {
				out = append(out, at+letter)
			}
		}
	}
	return strings.Join(out, " ")
}

// However history and live events overlap, each event is there once, in order, up to the end, and the cursor is the last.
func TestEventLogKeepsEachOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "events")
		end := rapid.IntRange(1, n+1).Draw(t, "end") // n+1: none
		event := func(i int) Event {
			e := Event{Event: wire.Event{Type: EventProgress}, Timetoken: fmt.Sprint(i)}
			if i == end {
				e.Type = EventTerminal
			}
			return e
		}
		var l eventLog
		for come := 0; come < n; {
			// A piece begins with something known, or with the next event.
			from := rapid.IntRange(max(1, come-10), come+1).Draw(t, "from")
			to := rapid.IntRange(from, n).Draw(t, "to")
			for i := from; i <= to; i++ {
				l.add(event(i))
			}
			come = max(come, to)
		}
		want := min(n, end)
		if len(l.events) != want || l.ended != (end <= n) || l.cursor != fmt.Sprint(want) {
			t.Fatalf("%d events of %d, ended %v, cursor %s", len(l.events), want, l.ended, l.cursor)
		}
		for i, e := range l.events {
			if e.Timetoken != fmt.Sprint(i+1) {
				t.Fatalf("event %s is in place %d", e.Timetoken, i+1)
			}
		}
	})
}
