package link

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// show writes actions as a script line.
func show(actions []pollAction) string {
	s := ""
	for i, a := range actions {
		if i > 0 {
			s += ", "
		}
		switch a := a.(type) {
		case request:
			if a.cursor == 0 {
				s += "handshake"
			} else {
				s += fmt.Sprintf("poll %d/%d", a.cursor, a.region)
			}
		case wait:
			s += "wait " + a.d.String()
		case renew:
			s += "renew"
		case deliver:
			s += "deliver " + a.m.Timetoken
		case suspect:
			s += "suspect"
		case announce:
			s += a.state.String()
			if a.again {
				s += " again"
			}
		}
	}
	return s
}

func messages(tts ...uint64) (out []Received) {
	for _, tt := range tts {
		out = append(out, Received{Channel: "c", Timetoken: formatTimetoken(tt), Body: []byte("1")})
	}
	return out
}

func ok(cursor uint64, tts ...uint64) pollEvent {
	return answered{pollAnswer{cursor: cursor, region: 4, entries: messages(tts...)}}
}

func status(code int) pollEvent { return refused{err: &StatusError{Op: "subscribe", Status: code}} }

var errPath = errors.New("connection reset")

func TestPollScripts(t *testing.T) {
	type line struct {
		event pollEvent
		after time.Duration // time that passes before the event
		want  string
	}
	tests := []struct {
		name   string
		cursor uint64
		deaf   bool // nobody renews tokens
		lines  []line
	}{
		{name: "a quiet life", lines: []line{
			{started{}, 0, "connecting, handshake"},
			{ok(10), 0, "connected, poll 10/4"},
			{ok(12, 11, 12), time.Second, "deliver 11, deliver 12, poll 12/4"},
			{ok(12), 280 * time.Second, "poll 12/4"},
			{ok(15, 15), time.Second, "deliver 15, poll 15/4"},
		}},
		{name: "a resumed cursor survives the handshake", cursor: 7, lines: []line{
			{started{}, 0, "connecting, handshake"},
			{ok(10, 9), 0, "connected, poll 7/4"},
			{ok(10, 8, 9, 10), 0, "deliver 8, deliver 9, deliver 10, poll 10/4"},
		}},
		{name: "an outage backs off and resets when anything gets through", lines: []line{
			{started{}, 0, "connecting, handshake"},
			{ok(10), 0, "connected, poll 10/4"},
			{failed{errPath}, time.Minute, "lost, wait 50ms"},
			{waited{}, 0, "handshake"},
			{failed{errPath}, 0, "lost again, wait 50ms"},
			{waited{}, 0, "handshake"},
			{status(503), 0, "lost again, wait 100ms"},
			{waited{}, 0, "handshake"},
			{ok(20), 0, "connected, poll 10/4"},
			{ok(19, 11, 19), 0, "deliver 11, deliver 19, poll 19/4"},
			{failed{errPath}, time.Minute, "lost, wait 50ms"},
		}},
		{name: "handshakes that work do not hide polls that fail", lines: []line{
			{started{}, 0, "connecting, handshake"},
			{ok(10), 0, "connected, poll 10/4"},
			{status(503), 0, "lost, wait 50ms"},
			{waited{}, 0, "handshake"},
			{ok(20), 0, "connected, poll 10/4"},
			{status(503), 0, "lost, wait 100ms"},
			{waited{}, 0, "handshake"},
			{ok(20), 0, "connected, poll 10/4"},
			{status(503), 0, "lost, wait 200ms"},
		}},
		{name: "a refused token is renewed and the cursor stays", lines: []line{
			{started{}, 0, "connecting, handshake"},
			{ok(10), 0, "connected, poll 10/4"},
			{status(403), 0, "denied, renew"},
			{renewed{}, 0, "handshake"},
			{ok(30), 0, "connected, poll 10/4"},
		}},
		{name: "renewals are not faster than the back-off", lines: []line{
			{started{}, 0, "connecting, handshake"},
			{status(403), 0, "denied, renew"},
			{renewed{}, 0, "handshake"},
			{status(403), 0, "denied again, wait 50ms"},
			{waited{}, 0, "renew"},
			{renewed{errPath}, 0, "wait 100ms"},
			{waited{}, 0, "renew"},
			{renewed{errPath}, 0, "wait 200ms"},
			{waited{}, 0, "renew"},
			{renewed{}, 0, "handshake"},
			{status(403), 0, "denied again, wait 400ms"},
			{waited{}, 0, "renew"},
			{renewed{}, 0, "handshake"},
			{ok(5), 0, "connected, poll 5/4"},
		}},
		{name: "without anyone to renew it waits", deaf: true, lines: []line{
			{started{}, 0, "connecting, handshake"},
			{status(403), 0, "denied, wait 50ms"},
			{waited{}, 0, "handshake"},
			{status(403), 0, "denied again, wait 100ms"},
		}},
		{name: "the network may ask for more time", lines: []line{
			{started{}, 0, "connecting, handshake"},
			{refused{&StatusError{Status: 429}, 7 * time.Second}, 0, "lost, wait 7s"},
		}},
		{name: "doubles are dropped and the cursor does not go back", lines: []line{
			{started{}, 0, "connecting, handshake"},
			{ok(10), 0, "connected, poll 10/4"},
			{ok(12, 11, 12, 12), 0, "deliver 11, deliver 12, poll 12/4"},
			{ok(11, 11, 13), 0, "deliver 13, poll 12/4"},
		}},
		{name: "empty answers at once are slowed down", lines: []line{
			{started{}, 0, "connecting, handshake"},
			{ok(10), 0, "connected, poll 10/4"},
			{ok(10), 0, "poll 10/4"},
			{ok(10), 0, "poll 10/4"},
			{ok(10), 0, "poll 10/4"},
			{ok(10), 0, "poll 10/4"},
			{ok(10), 0, "wait 50ms"},
			{waited{}, 0, "handshake"},
			{ok(10), 0, "poll 10/4"},
			{ok(10), 0, "wait 100ms"},
			{waited{}, 0, "handshake"},
			{ok(10), 0, "poll 10/4"},
			{ok(11, 11), 0, "deliver 11, poll 11/4"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1_700_000_000, 0)
			m := newPollMachine(tt.cursor, !tt.deaf, Timeouts{}.withDefaults(), func() float64 { return 0 })
			for i, l := range tt.lines {
				now = now.Add(l.after)
				if d := cmp.Diff(l.want, show(m.Step(l.event, now))); d != "" {
					t.Fatalf("line %d (%#v): %s", i+1, l.event, d)
				}
			}
		})
	}
}

// Whatever the network answers: one thing at a time, no message twice, the cursor never goes back, no wait longer than
// the limit or what the network asked for.
func TestPollProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Timeouts{}.withDefaults()
		canRenew := rapid.Bool().Draw(t, "can renew")
		jitter := func() float64 { return rapid.Float64Range(0, 0.999).Draw(t, "jitter") }
		m := newPollMachine(rapid.SampledFrom([]uint64{0, 5}).Draw(t, "cursor"), canRenew, limits, jitter)
		now := time.Unix(1_700_000_000, 0)
		delivered := map[string]bool{}
		cursor := m.cursor
		var event pollEvent = started{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			ask := time.Duration(0)
			if r, ok := event.(refused); ok {
				ask = r.wait
			}
			actions := m.Step(event, now)
			if len(actions) == 0 {
				t.Fatalf("nothing to do after %#v", event)
			}
			for i, a := range actions {
				last := i == len(actions)-1
				switch a := a.(type) {
				case deliver:
					key := a.m.Channel + a.m.Timetoken
					if delivered[key] {
						t.Fatalf("message %s delivered twice", key)
					}
					delivered[key] = true
				case announce:
				case request, wait, renew:
					if !last {
						t.Fatalf("%s: not the last action", show(actions))
					}
					if w, ok := a.(wait); ok && (w.d <= 0 || w.d > max(limits.BackoffCap, ask)) {
						t.Fatalf("waits %v", w.d)
					}
					if r, ok := a.(request); ok && r.cursor != 0 && r.cursor < cursor {
						t.Fatalf("polls from %d after %d", r.cursor, cursor)
					}
				}
			}
			if m.cursor < cursor {
				t.Fatalf("the cursor went from %d back to %d", cursor, m.cursor)
			}
			cursor = m.cursor
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(300*time.Second)).Draw(t, "pause")))
			switch actions[len(actions)-1].(type) {
			case request:
				switch rapid.IntRange(0, 4).Draw(t, "answer") {
				case 0:
					event = failed{errPath}
				case 1:
					code := rapid.SampledFrom([]int{400, http.StatusForbidden, 413, 429, 500, 503}).Draw(t, "status")
					event = refused{&StatusError{Status: code}, rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "retry after")}
				default:
					c := rapid.Uint64Range(1, 40).Draw(t, "answer cursor")
					event = answered{pollAnswer{cursor: c, entries: messages(rapid.SliceOfN(rapid.Uint64Range(1, 40), 0, 4).Draw(t, "messages")...)}}
				}
			case wait:
				event = waited{}
			case renew:
				if !canRenew {
					t.Fatal("renews though nobody can")
				}
				event = renewed{}
				if rapid.Bool().Draw(t, "renewal fails") {
					event = renewed{errPath}
				}
			default:
				t.Fatalf("%s: no request, wait or renewal at the end", show(actions))
			}
		}
	})
}

func TestSeenSetForgetsTheOldest(t *testing.T) {
	for _, limit := range []int{3, seenFew, seenFew + 1} {
		s := seenSet{limit: limit}
		key := func(n int) seenKey { return seenKeyOf(Received{Channel: "c", Timetoken: strconv.Itoa(n)}) }
		for n := range 2*limit + 1 {
			if !s.add(key(n)) {
				t.Errorf("%d of %d is not new", n, limit)
			}
		}
		for n := limit + 1; n <= 2*limit; n++ {
			if s.add(key(n)) {
				t.Errorf("%d of %d is new again", n, limit)
			}
		}
		if !s.add(key(limit)) {
			t.Errorf("%d of %d should be forgotten", limit, limit)
		}
	}
}

// TestSeenKeys: messages differ by channel or time, whatever the network sends as time.
func TestSeenKeys(t *testing.T) {
	seen := map[seenKey]Received{}
	for _, channel := range []string{"", "a", "a x", "b"} {
		for _, time := range []string{"", "1", "2", "x", "-1", "18446744073709551615", "18446744073709551616", "0"} {
			m := Received{Channel: channel, Timetoken: time}
			if other, found := seen[seenKeyOf(m)]; found {
				t.Errorf("%q and %q are taken for one", other, m)
			}
			seen[seenKeyOf(m)] = m
		}
	}
}

// TestPollSuspectsAGap: a first answer after a break that is as long as the network's memory is said to be suspect; later
// ones are only a busy channel.
func TestPollSuspectsAGap(t *testing.T) {
	suspects := func(actions []pollAction) (n int) {
		for _, a := range actions {
			if _, ok := a.(suspect); ok {
				n++
			}
		}
		return n
	}
	next := uint64(100)
	full := func(size int) pollEvent {
		var tts []uint64
		for range size {
			next++
			tts = append(tts, next)
		}
		return ok(next, tts...)
	}
	now := time.Unix(1_777_000_000, 0)
	p := newPollMachine(50, true, Timeouts{}, func() float64 { return 0 })
	p.Step(started{}, now)
	p.Step(ok(50), now) // the handshake
	for i, tc := range []struct {
		event pollEvent
		want  int
	}{
		{full(ringSize), 1}, {full(ringSize), 0}, {status(503), 0}, {waited{}, 0}, {ok(60), 0}, {full(ringSize - 1), 0}, {full(ringSize), 0},
		{status(503), 0}, {waited{}, 0}, {ok(60), 0}, {full(ringSize), 1},
	} {
		if got := suspects(p.Step(tc.event, now)); got != tc.want {
			t.Errorf("event %d: %d suspicions, want %d", i, got, tc.want)
		}
	}
}
