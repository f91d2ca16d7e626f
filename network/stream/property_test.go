package stream

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/network/wire"
)

// model is a writer and a reader with a network between them that reorders, repeats, fails and perhaps loses.
type model struct {
	t       *rapid.T
	now     time.Time
	tt      int64
	format  wire.StreamFormat
	writer  *sender
	reader  *lanes
	loses   bool
	sending []publish // not answered yet
	flying  []flyer   // accepted by the network, not yet delivered
	look    time.Time // of the writer, zero for none
	readAt  time.Time // of the reader

	written  [][]byte
	acked    int
	got      []Delivery
	finished bool
	over     bool
}

// flyer is one copy of a message on its way to the reader.
type flyer struct {
	body  []byte
	tt    int64
	since time.Time
}

// longest is how long a message may be on its way to the reader: less than readers wait.
const longest = 600 * time.Millisecond

func (m *model) write(n int) {
	var e wrote
	for range n {
		var item Item
		size := rapid.IntRange(0, 900).Draw(m.t, "size")
		switch {
		case m.format == wire.FormatEvents:
			item = Event(fmt.Appendf(nil, `{"n":%d,"pad":%q}`, len(m.written), bytes.Repeat([]byte("x"), size)))
		case rapid.Bool().Draw(m.t, "binary"):
			item = Bytes(append([]byte{0xff}, bytes.Repeat([]byte{byte(len(m.written))}, size)...))
		default:
			item = Text(strconv.Itoa(len(m.written)) + string(bytes.Repeat([]byte("é"), size/2)))
		}
		one, err := newElement(item, m.format, 1<<20)
		if err != nil {
			m.t.Fatal(err)
		}
		e.elements = append(e.elements, one)
		m.written = append(m.written, one.data)
	}
	m.step(e)
}

// step tells the writer.
func (m *model) step(e senderEvent) {
	m.look = time.Time{}
	for _, a := range m.writer.Step(e, m.now) {
		switch a := a.(type) {
		case publish:
			limit := m.writer.limits.MaxMessage
			if one, err := wire.DecodeStreamMessage(a.body); err != nil {
				m.t.Fatal(err)
			} else if one.Part.Total > 0 {
				limit = m.writer.limits.MaxPiece
			}
			if len(a.body) > limit {
				m.t.Fatalf("message of %d bytes, more than %d", len(a.body), limit)
			}
			m.sending = append(m.sending, a)
		case acknowledged:
			m.acked += a.count
		case look:
			m.look = a.at
		case finished:
			m.finished = true
		}
	}
}

// read tells the reader.
func (m *model) read(e lanesEvent) {
	m.readAt = time.Time{}
	for _, a := range m.reader.Step(e, m.now) {
		switch a := a.(type) {
		case deliver:
			m.got = append(m.got, a.d)
		case look:
			m.readAt = a.at
		case over:
			m.over = true
		case dropped:
			m.t.Fatal(a.err)
		}
	}
}

// take removes one element.
func take[E any](s *[]E, i int) E {
	e := (*s)[i]
	*s = slices.Delete(*s, i, i+1)
	return e
}

// answer lets the network accept a publish, or not, and answers it.
func (m *model) answer() {
	p := take(&m.sending, rapid.IntRange(0, len(m.sending)-1).Draw(m.t, "answered"))
	fate := rapid.IntRange(0, 9).Draw(m.t, "fate")
	if fate != 0 { // else it never arrives
		m.tt++
		copies := 1
		if rapid.IntRange(0, 9).Draw(m.t, "twice") == 0 {
			copies = 2
		}
		lost := m.loses && rapid.IntRange(0, 9).Draw(m.t, "lost") == 0
		for range copies {
			if !lost {
				m.flying = append(m.flying, flyer{p.body, m.tt, m.now})
			}
		}
	}
	if fate <= 1 {
		m.step(failed{ref: p.ref, throttled: fate == 0 && rapid.Bool().Draw(m.t, "throttled")})
		return
	}
	m.step(sent{p.ref})
}

func (m *model) arrive(i int) {
	f := take(&m.flying, i)
	message, err := wire.DecodeStreamMessage(f.body)
	if err != nil {
		m.t.Fatal(err)
	}
	m.read(arrived{"w", strconv.FormatInt(f.tt, 10), message})
}

// pass lets a little time pass.
func (m *model) pass(d time.Duration) {
	m.now = m.now.Add(d)
	for i := 0; i < len(m.flying); {
		if m.now.Sub(m.flying[i].since) > longest {
			m.arrive(i)
			continue
		}
		i++
	}
	if !m.look.IsZero() && !m.now.Before(m.look) {
		m.step(looked{})
	}
	if !m.readAt.IsZero() && !m.now.Before(m.readAt) {
		m.read(looked{})
	}
}

func newModel(t *rapid.T, loses bool) *model {
	format := rapid.SampledFrom([]wire.StreamFormat{wire.FormatBytes, wire.FormatEvents}).Draw(t, "format")
	largest := rapid.IntRange(700, 3000).Draw(t, "largest message")
	l, err := Limits{
		MaxMessage: largest, MaxPiece: rapid.IntRange(largest, 2*largest+1000).Draw(t, "largest piece"), Window: rapid.IntRange(1, 4).Draw(t, "window"),
		Pieces: rapid.IntRange(1, 8).Draw(t, "pieces"), Rate: float64(rapid.SampledFrom([]int{0, 0, 50}).Draw(t, "rate")),
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	first := format.FirstSeq()
	if rapid.Bool().Draw(t, "written before") {
		first = FirstSeq(format, true, epoch)
	}
	m := &model{
		t: t, now: epoch, format: format, loses: loses, reader: newLanes(format, true, 0),
		writer: newSender(wire.StreamHead{StreamID: "s", Format: format, FirstSeq: first}, l, true, "cafe", func() float64 { return 0.5 }),
	}
	m.writer.lasted = rapid.SampledFrom([]int{0, lasting}).Draw(t, "pieces before")
	return m
}

// run writes, lets things happen in any order, ends the stream and waits for the end.
func (m *model) run() {
	m.t.Repeat(map[string]func(*rapid.T){
		"write":  func(t *rapid.T) { m.t = t; m.write(rapid.IntRange(1, 5).Draw(t, "items")) },
		"answer": func(t *rapid.T) { m.t = t; m.pass(time.Millisecond); m.answerIfAny() },
		"arrive": func(t *rapid.T) {
			m.t = t
			if len(m.flying) > 0 {
				m.arrive(rapid.IntRange(0, len(m.flying)-1).Draw(t, "arrives"))
			}
		},
		"pass": func(t *rapid.T) { m.t = t; m.pass(20 * time.Millisecond) },
	})
	m.step(ending{})
	for n := 0; !m.finished || len(m.flying) > 0; n++ {
		if n > 100_000 {
			m.t.Fatalf("the writer does not end: %d under way, %d to be sent", len(m.sending), len(m.writer.queue))
		}
		m.answerIfAny()
		m.pass(5 * time.Millisecond)
	}
	if m.acked != len(m.written) {
		m.t.Fatalf("%d of %d items acknowledged", m.acked, len(m.written))
	}
	for range 100 { // what is missing is given up at some time
		m.pass(time.Second)
	}
}

func (m *model) answerIfAny() {
	if len(m.sending) > 0 {
		m.answer()
	}
}

// contents are the items that a reader has got.
func contents(d []Delivery) (items [][]byte) {
	for _, one := range d {
		for _, i := range one.Items {
			if i.Event != nil {
				items = append(items, i.Event)
			} else {
				items = append(items, i.Data)
			}
		}
	}
	return items
}

// TestReaderGetsWhatWasWritten: whatever a network without loss does to the messages, the reader yields exactly what was
// written, in order, with the same boundaries, and ends.
func TestReaderGetsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, false)
		m.run()
		for _, d := range m.got {
			if d.Gap != nil {
				t.Fatalf("gap %+v", *d.Gap)
			}
		}
		if got := contents(m.got); !slices.EqualFunc(got, m.written, bytes.Equal) {
			t.Fatalf("read %q, wrote %q", got, m.written)
		}
		if !m.over {
			t.Fatal("the reader does not end")
		}
	})
}

// TestReaderReportsWhatIsLost: a reader yields what has arrived, in order, reports each number that is missing once, and
// ends unless the end marker is lost.
func TestReaderReportsWhatIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, true)
		m.run()
		if !m.over {
			m.read(closing{})
		}
		next := m.writer.head.FirstSeq
		rest := m.written
		for _, d := range m.got {
			if d.Gap != nil {
				if d.Gap.From != next || d.Gap.To < next {
					t.Fatalf("gap %+v, want one from %d on", *d.Gap, next)
				}
				next = d.Gap.To + 1
				continue
			}
			if d.Seq != next {
				t.Fatalf("message %d follows %d, and nothing says what is missing", d.Seq, next-1)
			}
			next++
			for _, item := range contents([]Delivery{d}) {
				i := slices.IndexFunc(rest, func(w []byte) bool { return bytes.Equal(w, item) })
				if i < 0 {
					t.Fatalf("message %d yields %q, which was not written after what came before", d.Seq, item)
				}
				rest = rest[i+1:]
			}
		}
	})
}

// TestNoPieceIsAlone: readers drop a message that comes in a single piece.
func TestNoPieceIsAlone(t *testing.T) {
	limits, err := Limits{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range []int{0, lasting} {
		for size := 1000; size < 4*limits.MaxPiece; size += 1000 {
			s := newSender(wire.StreamHead{StreamID: "s", Format: wire.FormatBytes}, limits, true, "cafe", func() float64 { return 0.5 })
			s.lasted = before
			one, err := newElement(Bytes(bytes.Repeat([]byte{0xff}, size)), wire.FormatBytes, limits.MaxItem)
			if err != nil {
				t.Fatal(err)
			}
			pieces := 0
			for _, a := range s.Step(wrote{elements: []element{one}}, epoch) {
				if p, ok := a.(publish); ok {
					m, err := wire.DecodeStreamMessage(p.body)
					if err != nil {
						t.Fatalf("%d bytes with %d pieces before: %v", size, before, err)
					}
					if m.Part.Total > 0 {
						pieces++
					} else if len(p.body) > limits.MaxMessage {
						t.Errorf("%d bytes are sent in one message of %d", size, len(p.body))
					}
				}
			}
			if pieces == 1 && s.pieces > 1 {
				t.Errorf("%d bytes: one piece is sent at once, of which more may be under way", size)
			}
		}
	}
}
