package pubsub

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/sandbox/filter"
	"github.com/blocksd/blocksd/sandbox/switches"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newSpace(t testing.TB, change func(*Config)) *Space {
	t.Helper()
	cfg := Config{SubscribeKey: "sub"}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Space) put(channel, body string) int64 {
	tt, _ := s.Publish(Publication{Channel: channel, Body: []byte(body), Store: true})
	return tt
}

// answer decodes what a subscriber would get.
type answer struct {
	T struct {
		T string
		R int
	}
	M []struct {
		C, B, K, I string
		E, F       int
		D, U       json.RawMessage
		P          struct{ T string }
	}
}

func decodeBatch(t testing.TB, b Batch) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal(b.AppendAnswer(nil), &a); err != nil {
		t.Fatalf("answer %s: %v", b.AppendAnswer(nil), err)
	}
	return a
}

func payloads(a answer) []string {
	var out []string
	for _, m := range a.M {
		out = append(out, string(m.D))
	}
	return out
}

// look polls once without waiting.
func look(t testing.TB, s *Space, cursor int64, channels ...string) answer {
	t.Helper()
	p := s.Open(Subscription{Channels: channels, Cursor: cursor})
	defer p.Close(true)
	b, ok := p.Next()
	if !ok {
		b = p.Empty()
	}
	return decodeBatch(t, b)
}

func TestEnvelope(t *testing.T) {
	s := newSpace(t, func(c *Config) { c.Now = func() time.Time { return time.Unix(1706987654, 321) } })
	cursor := s.Handshake(Subscription{Channels: []string{"room.1"}})
	s.Publish(Publication{Channel: "room.1", Publisher: "al\"ice", Meta: []byte(`{"k":"v"}`), Body: []byte(`{"text":"hi"}`), Type: 4, CustomType: "chat", Sequence: 7})
	p := s.Open(Subscription{Channels: []string{"room.1"}, Cursor: cursor})
	b, ok := p.Next()
	p.Close(true)
	if !ok {
		t.Fatal("nothing")
	}
	want := `{"t":{"t":"17069876540000004","r":1},"m":[{"a":"1","f":0,"i":"al\"ice","s":7,"p":{"t":"17069876540000004","r":1},"k":"sub","c":"room.1","cmt":"chat","e":4,"u":{"k":"v"},"d":{"text":"hi"}}]}`
	if got := string(b.AppendAnswer(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSubscriptionMatch(t *testing.T) {
	s := newSpace(t, nil)
	cursor := s.Timetoken()
	s.put("a.b", `1`)
	tests := []struct {
		sub  Subscription
		want []string // matches
	}{
		{Subscription{Channels: []string{"a.b"}}, []string{""}},
		{Subscription{Channels: []string{"a.b"}, Groups: []string{"g"}}, []string{"a.b"}},
		{Subscription{Channels: []string{"a.b", "c"}}, []string{"a.b"}},
		{Subscription{Channels: []string{"a.*"}}, []string{"a.*"}},
		{Subscription{Channels: []string{"a.b", "a.*"}}, []string{"a.b"}},
		{Subscription{Channels: []string{"b.*"}}, nil},
	}
	for _, tt := range tests {
		tt.sub.Cursor = cursor
		p := s.Open(tt.sub)
		b, _ := p.Next()
		p.Close(true)
		var got []string
		for _, m := range decodeBatch(t, b).M {
			got = append(got, m.B)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%v: %s", tt.sub.Channels, diff)
		}
	}
}

func TestRingKeepsTheNewest(t *testing.T) {
	s := newSpace(t, func(c *Config) { c.RingSize = 3 })
	for i := range 5 {
		s.put("c", strconv.Itoa(i))
	}
	if diff := cmp.Diff([]string{"2", "3", "4"}, payloads(look(t, s, 1000, "c"))); diff != "" {
		t.Error(diff)
	}
	if n := len(s.History(HistoryQuery{Channel: "c", Max: 100})); n != 5 {
		t.Errorf("history has %d messages, want 5", n)
	}
}

func TestPollIsWokenByMatchingMessagesOnly(t *testing.T) {
	s := newSpace(t, nil)
	f, err := filter.Parse(`meta.instance == 'x'`)
	if err != nil {
		t.Fatal(err)
	}
	p := s.Open(Subscription{Channels: []string{"c"}, Cursor: s.Timetoken(), Filter: f})
	defer p.Close(true)
	held, _ := s.Publish(Publication{Channel: "c", Meta: []byte(`{"instance":"y"}`), Body: []byte(`1`)})
	select {
	case <-p.Wake():
		t.Fatal("woken by a message that the filter holds back")
	default:
	}
	if got := p.Empty().Cursor; got != held {
		t.Errorf("cursor %d, want that of the message held back, %d", got, held)
	}
	s.Publish(Publication{Channel: "c", Meta: []byte(`{"instance":"x"}`), Body: []byte(`2`)})
	<-p.Wake()
	b, ok := p.Next()
	if diff := cmp.Diff([]string{"2"}, payloads(decodeBatch(t, b))); !ok || diff != "" {
		t.Error(ok, diff)
	}
}

func TestNewerPollSupersedes(t *testing.T) {
	s := newSpace(t, nil)
	sub := Subscription{Channels: []string{"c"}, UUID: "u", Cursor: s.Timetoken()}
	older, newer := s.Open(sub), s.Open(sub)
	sub.UUID = "v"
	other := s.Open(sub)
	select {
	case <-older.Superseded():
	default:
		t.Error("older poll goes on")
	}
	for name, p := range map[string]*Poll{"newer": newer, "other uuid": other} {
		select {
		case <-p.Superseded():
			t.Errorf("%s poll superseded", name)
		default:
		}
	}
	// The older one can still deliver: nothing is consumed by a delivery.
	s.put("c", `1`)
	for _, p := range []*Poll{older, newer, other} {
		<-p.Wake()
		if b, ok := p.Next(); !ok || len(b.Deliveries) != 1 {
			t.Errorf("%d deliveries", len(b.Deliveries))
		}
		p.Close(true)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	const limit = 64 << 10
	s := newSpace(t, func(c *Config) { c.HistoryBytes = limit })
	body := `"` + strings.Repeat("x", 1000) + `"`
	for i := range 1000 {
		s.Publish(Publication{Channel: fmt.Sprintf("c.%d", i%37), Body: []byte(body), Store: i%2 == 0})
	}
	if st := s.Stats(); st.Bytes > limit || st.Messages > limit/1000 || st.Channels > 37 {
		t.Errorf("%+v", st)
	}
	for i := range 37 {
		s.Forget(fmt.Sprintf("c.%d", i))
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("after forgetting all: %+v", st)
	}
}

func TestPublishUnless(t *testing.T) {
	s := newSpace(t, nil)
	if _, ok := s.Publish(Publication{Channel: "c", Body: []byte(`1`), Unless: func() bool { return true }}); ok || len(look(t, s, 1, "c").M) != 0 {
		t.Error("published although called off")
	}
}

func TestHistoryRange(t *testing.T) {
	s := newSpace(t, nil)
	var tts []int64
	for i := range 6 {
		tts = append(tts, s.put("c", strconv.Itoa(i)))
	}
	s.Publish(Publication{Channel: "c", Body: []byte(`"unstored"`)})
	tests := []struct {
		q    HistoryQuery
		want []string
	}{
		{HistoryQuery{Max: 100}, []string{"0", "1", "2", "3", "4", "5"}},
		{HistoryQuery{Max: 2}, []string{"4", "5"}},
		{HistoryQuery{Max: 2, Start: tts[3]}, []string{"1", "2"}},
		{HistoryQuery{Max: 100, End: tts[4]}, []string{"4", "5"}},
		{HistoryQuery{Max: 100, Start: tts[4], End: tts[2]}, []string{"2", "3"}},
		{HistoryQuery{Max: 100, Start: tts[0]}, nil},
	}
	for _, tt := range tests {
		tt.q.Channel = "c"
		var got []string
		for _, m := range s.History(tt.q) {
			got = append(got, string(m.Body))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v: %s", tt.q, diff)
		}
	}
}

// TestEveryMessageOnce: whatever the order of publishes and polls, a subscriber that follows its cursor gets every
// message of its channels once, in order, as long as it stays within the ring.
func TestEveryMessageOnce(t *testing.T) {
	const ring = 8
	channels := []string{"a.x", "a.y", "b.x", "b.y.z"}
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1700000000, 0)
		s, err := New(Config{SubscribeKey: "s", History: switches.History{RingSize: ring}, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		type reader struct {
			sub       Subscription
			got, want []string
			behind    map[string]int
		}
		var readers []*reader
		for _, subs := range [][]string{{"a.x"}, {"a.x", "b.x"}, {"a.*"}, {"a.*", "a.x", "b.y.*"}} {
			r := &reader{sub: Subscription{Channels: subs, UUID: strings.Join(subs, "+"), Join: true}, behind: map[string]int{}}
			r.sub.Cursor = s.Handshake(r.sub)
			readers = append(readers, r)
		}
		covers := func(r *reader, channel string) bool {
			for _, c := range r.sub.Channels {
				if c == channel || IsWildcard(c) && strings.HasPrefix(channel, strings.TrimSuffix(c, "*")) {
					return true
				}
			}
			return false
		}
		poll := func(t *rapid.T, r *reader) {
			p := s.Open(r.sub)
			b, ok := p.Next()
			if !ok {
				b = p.Empty()
			}
			p.Close(true)
			if b.Cursor < r.sub.Cursor {
				t.Fatalf("cursor went back from %d to %d", r.sub.Cursor, b.Cursor)
			}
			r.sub.Cursor = b.Cursor
			var a answer
			if err := json.Unmarshal(b.AppendAnswer(nil), &a); err != nil {
				t.Fatal(err)
			}
			r.got = append(r.got, payloads(a)...)
			if len(a.M) < ring {
				clear(r.behind)
			}
		}
		count := 0
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				c := rapid.SampledFrom(channels).Draw(t, "channel")
				for _, r := range readers {
					if covers(r, c) {
						// A wildcard's ring is shared by its channels, so the whole backlog counts.
						if total := r.behind[""] + 1; total > ring {
							poll(t, r)
							for r.behind[""] > 0 && len(r.got) < len(r.want) {
								poll(t, r)
							}
							clear(r.behind)
						}
						r.behind[""]++
						r.want = append(r.want, strconv.Itoa(count))
					}
				}
				s.Publish(Publication{Channel: c, Body: []byte(strconv.Itoa(count)), Store: count%2 == 0})
				count++
			},
			"poll":  func(t *rapid.T) { poll(t, rapid.SampledFrom(readers).Draw(t, "reader")) },
			"clock": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(-5, 5).Draw(t, "step")) * time.Second) },
			"": func(t *rapid.T) {
				for _, r := range readers {
					if n := len(r.got); n > len(r.want) || cmp.Diff(r.want[:n], r.got) != "" && n > 0 {
						t.Fatalf("reader of %v got %v, want a beginning of %v", r.sub.Channels, r.got, r.want)
					}
				}
			},
		})
		for _, r := range readers {
			for range 10 {
				poll(t, r)
			}
			if len(r.want)+len(r.got) > 0 {
				if diff := cmp.Diff(r.want, r.got); diff != "" {
					t.Fatalf("reader of %v: %s", r.sub.Channels, diff)
				}
			}
		}
	})
}

func TestConcurrentReadersMissNothing(t *testing.T) {
	const publishers, readers, each = 8, 8, 200
	s := newSpace(t, func(c *Config) { c.RingSize = publishers * each })
	channel := func(i int) string { return fmt.Sprintf("c%d", i%4) }
	var all sync.WaitGroup
	for r := range readers {
		sub := Subscription{Channels: []string{channel(r), channel(r + 1)}, UUID: fmt.Sprint(r), Join: true}
		sub.Cursor = s.Handshake(sub)
		all.Go(func() {
			seen := map[string]bool{}
			last := int64(0)
			for len(seen) < publishers/2*each {
				p := s.Open(sub)
				b, ok := p.Next()
				for !ok {
					select {
					case <-p.Wake():
					case <-time.After(3 * time.Minute):
						t.Errorf("reader %d is stuck at %d messages", r, len(seen))
						p.Close(true)
						return
					}
					b, ok = p.Next()
				}
				p.Close(true)
				sub.Cursor = b.Cursor
				for _, m := range decodeBatch(t, b).M {
					tt, _ := strconv.ParseInt(m.P.T, 10, 64)
					if seen[string(m.D)] || tt <= last {
						t.Errorf("message %s twice or out of order", m.D)
					}
					seen[string(m.D)] = true
					last = tt
				}
			}
		})
	}
	for p := range publishers {
		all.Go(func() {
			for i := range each {
				s.put(channel(p), strconv.Itoa(p*each+i))
			}
		})
	}
	all.Wait()
}
