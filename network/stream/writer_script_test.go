package stream

// The scripts in testdata/writer: lines without indentation are the limits and what happens, with its time; indented
// lines are what must follow. "go test ./network/stream -update" writes what the machine does now.
//
//	writer FORMAT [marker] [first=N] [max=BYTES] [window=N] [pieces=N] [rate=N] [burst=N] [latency=D] [bundle=BYTES]
//	TIME write ITEM…        tN, uN and bN are N bytes of text, of text that needs escapes, and of other bytes; eN is an
//	                        event of N bytes. "3*t10" are three of them.
//	TIME sent SEQ [PART]    TIME fail SEQ [PART] [throttled] [wait=D]    PART counts from 1
//	TIME flush    TIME end [FAILURE]    TIME look

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil/scripttest"
	"github.com/blocksd/blocksd/network/wire"
)

func TestWriterScripts(t *testing.T) {
	scripttest.Run(t, "testdata/writer/*.txt", func(t *testing.T, script string) string {
		var out strings.Builder
		var s *sender
		for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
			if strings.HasPrefix(line, " ") {
				continue
			}
			out.WriteString(line + "\n")
			fields := strings.Fields(line)
			if len(fields) == 0 || strings.HasPrefix(line, "#") {
				continue
			}
			if fields[0] == "writer" {
				s = writerOf(t, fields[1:])
				continue
			}
			at, err := time.ParseDuration(fields[0])
			if err != nil || s == nil || len(fields) < 2 {
				t.Fatalf("line %d: want TIME EVENT after a writer line", n+1)
			}
			e, err := writerEvent(s, fields[1], fields[2:])
			if err != nil {
				t.Fatalf("line %d: %v", n+1, err)
			}
			for _, a := range s.Step(e, epoch.Add(at)) {
				out.WriteString("  " + writerAction(t, a) + "\n")
			}
		}
		return out.String()
	})
}

func writerOf(t *testing.T, fields []string) *sender {
	format := wire.StreamFormat(fields[0])
	var l Limits
	first, marker := format.FirstSeq(), false
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "marker":
			marker = true
		case "first":
			first = int64(n)
		case "max":
			l.MaxMessage = n
		case "window":
			l.Window = n
		case "pieces":
			l.Pieces = n
		case "rate":
			l.Rate = float64(n)
		case "burst":
			l.Burst = n
		case "bundle":
			l.Bundle = n
		case "latency":
			l.MaxLatency, _ = time.ParseDuration(value)
		default:
			t.Fatalf("unknown setting %q", key)
		}
	}
	l, err := l.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return newSender(wire.StreamHead{StreamID: "s", Format: format, FirstSeq: first}, l, marker, "cafe", func() float64 { return 1 })
}

func writerEvent(s *sender, name string, fields []string) (senderEvent, error) {
	switch name {
	case "look":
		return looked{}, nil
	case "flush":
		return flush{}, nil
	case "end":
		return ending{strings.Join(fields, " ")}, nil
	case "write":
		var e wrote
		for _, f := range fields {
			times := 1
			if n, rest, ok := strings.Cut(f, "*"); ok {
				times, _ = strconv.Atoi(n)
				f = rest
			}
			size, err := strconv.Atoi(f[1:])
			if err != nil {
				return nil, err
			}
			item := Bytes(bytes.Repeat([]byte(map[byte]string{'t': "a", 'u': "\x01", 'b': "\xff", 'e': "1"}[f[0]]), size))
			if f[0] == 'e' {
				item = Event(item.Data)
			}
			for range times {
				one, err := newElement(item, s.head.Format, s.limits.MaxItem)
				if err != nil {
					return nil, err
				}
				e.elements = append(e.elements, one)
			}
		}
		return e, nil
	case "sent", "fail":
		var r ref
		var err error
		if r.seq, err = strconv.ParseInt(fields[0], 10, 64); err != nil {
			return nil, err
		}
		f := failed{}
		for _, field := range fields[1:] {
			if d, ok := strings.CutPrefix(field, "wait="); ok {
				f.wait, err = time.ParseDuration(d)
			} else if field == "throttled" {
				f.throttled = true
			} else if r.part, err = strconv.Atoi(field); err == nil {
				r.part--
			}
			if err != nil {
				return nil, err
			}
		}
		for _, g := range s.flights {
			if g.at.Seq == r.seq {
				r.generation = g.generation
			}
		}
		if f.ref = r; name == "fail" {
			return f, nil
		}
		return sent{r}, nil
	}
	return nil, fmt.Errorf("unknown event %q", name)
}

func writerAction(t *testing.T, a senderAction) string {
	switch a := a.(type) {
	case publish:
		m, err := wire.DecodeStreamMessage(a.body)
		if err != nil {
			t.Fatalf("published %s: %v", a.body, err)
		}
		s := fmt.Sprintf("publish %d", m.Seq)
		if m.Unacked != m.Seq {
			s += fmt.Sprintf(" unacked %d", m.Unacked)
		}
		if m.FirstSeq >= 0 {
			s += fmt.Sprintf(" first %d", m.FirstSeq)
		}
		switch m.Kind {
		case wire.StreamEnd:
			s += strings.TrimRight(" end "+m.Failure, " ")
		case wire.StreamPiece:
			s += fmt.Sprintf(" piece %d/%d %s", m.Part.Number, m.Part.Total, m.Part.ID)
		default:
			var sizes []string
			for _, c := range m.Chunks {
				sizes = append(sizes, strconv.Itoa(len(c)))
			}
			for _, e := range m.Events {
				sizes = append(sizes, strconv.Itoa(len(e)))
			}
			kind := "base64"
			if m.Text || m.Events != nil {
				kind = "utf8"
			}
			if len(sizes) > 4 {
				sizes = append(sizes[:2], fmt.Sprintf("… (%d in all)", len(sizes)))
			}
			s += " " + kind + " " + strings.Join(sizes, " ")
		}
		return fmt.Sprintf("%s: %d bytes", s, len(a.body))
	case acknowledged:
		return fmt.Sprintf("acknowledged %d", a.count)
	case look:
		return "look " + a.at.Sub(epoch).String()
	case finished:
		return "finished"
	}
	return fmt.Sprintf("%T", a)
}
