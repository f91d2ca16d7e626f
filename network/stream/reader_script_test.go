package stream

// The scripts in testdata/reader: lines without indentation are the stream and what happens, with its time; indented
// lines are what must follow. "go test ./network/stream -update" writes what the machine does now.
//
//	stream FORMAT [marker] [timeout=D]
//	TIME data SEQ [from=SENDER] [at=TIME] [sent=TIME] [first=SEQ] [unacked=SEQ]   at and sent are TIME where not said
//	TIME piece SEQ N/TOTAL [id=ID] [from=…]
//	TIME end SEQ [failure]        TIME raw SEQ
//	TIME caughtup TIME            everything that the network got until then has arrived
//	TIME down    TIME up    TIME close    TIME look

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil/scripttest"
	"github.com/blocksd/blocksd/network/wire"
)

var epoch = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

func TestReaderScripts(t *testing.T) {
	scripttest.Run(t, "testdata/reader/*.txt", func(t *testing.T, script string) string {
		var out strings.Builder
		var s *lanes
		for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
			if strings.HasPrefix(line, " ") {
				continue
			}
			out.WriteString(line + "\n")
			fields := strings.Fields(line)
			if len(fields) == 0 || strings.HasPrefix(line, "#") {
				continue
			}
			if fields[0] == "stream" {
				s = readerOf(t, fields[1:])
				continue
			}
			at, err := time.ParseDuration(fields[0])
			if err != nil || s == nil || len(fields) < 2 {
				t.Fatalf("line %d: want TIME EVENT after a stream line", n+1)
			}
			e, err := readerEvent(s.format, at, fields[1], fields[2:])
			if err != nil {
				t.Fatalf("line %d: %v", n+1, err)
			}
			for _, a := range s.Step(e, epoch.Add(at)) {
				out.WriteString("  " + readerAction(a) + "\n")
			}
		}
		return out.String()
	})
}

func readerOf(t *testing.T, fields []string) *lanes {
	format, marker, timeout := wire.StreamFormat(fields[0]), false, time.Duration(0)
	for _, f := range fields[1:] {
		if d, ok := strings.CutPrefix(f, "timeout="); ok {
			var err error
			if timeout, err = time.ParseDuration(d); err != nil {
				t.Fatal(err)
			}
		}
		marker = marker || f == "marker"
	}
	return newLanes(format, marker, timeout)
}

func readerEvent(format wire.StreamFormat, at time.Duration, name string, fields []string) (lanesEvent, error) {
	switch name {
	case "down", "up":
		return network{name == "up"}, nil
	case "close":
		return closing{}, nil
	case "look":
		return looked{}, nil
	case "caughtup":
		d, err := time.ParseDuration(fields[0])
		return caughtUp{networkTime(d)}, err
	}
	options := map[string]string{"from": "a", "at": at.String(), "sent": at.String(), "id": "mp"}
	var plain []string
	for _, f := range fields {
		if k, v, ok := strings.Cut(f, "="); ok {
			options[k] = v
		} else {
			plain = append(plain, f)
		}
	}
	seq, err := strconv.ParseInt(plain[0], 10, 64)
	if err != nil {
		return nil, err
	}
	arrival, err := time.ParseDuration(options["at"])
	if err != nil {
		return nil, err
	}
	sentAt, err := time.ParseDuration(options["sent"])
	if err != nil {
		return nil, err
	}
	number := func(key string, def int64) int64 {
		if v, err := strconv.ParseInt(options[key], 10, 64); err == nil {
			return v
		}
		return def
	}
	head := wire.StreamHead{StreamID: "s", Format: format, FirstSeq: number("first", format.FirstSeq())}
	stamp := wire.StreamStamp{Seq: seq, TS: epoch.Add(sentAt).UnixMilli(), Unacked: number("unacked", seq)}
	whole := head.AppendStop(append(head.AppendStart(nil, stamp, false), `"x"`...))
	var body []byte
	switch name {
	case "data":
		body = whole
	case "piece":
		var part, total int
		if _, err := fmt.Sscanf(plain[1], "%d/%d", &part, &total); err != nil {
			return nil, err
		}
		size := (len(whole) + total - 1) / total
		body = head.AppendPiece(nil, stamp, options["id"], part, total, whole[(part-1)*size:min(part*size, len(whole))])
	case "end":
		body = head.AppendEnd(nil, stamp, strings.Join(plain[1:], " "))
	case "raw":
		body = fmt.Appendf(nil, `{"type":"other","seq":%d}`, seq)
	default:
		return nil, fmt.Errorf("unknown event %q", name)
	}
	m, err := wire.DecodeStreamMessage(body)
	return arrived{options["from"], networkTime(arrival), m}, err
}

func networkTime(d time.Duration) string { return strconv.FormatInt(epoch.Add(d).UnixNano()/100, 10) }

func readerAction(a lanesAction) string {
	switch a := a.(type) {
	case deliver:
		from := ""
		if a.d.Sender != "a" {
			from = " from " + a.d.Sender
		}
		switch {
		case a.d.Gap != nil:
			return fmt.Sprintf("gap %d-%d %s%s", a.d.Gap.From, a.d.Gap.To, a.d.Gap.Reason, from)
		case a.d.Raw != nil:
			return fmt.Sprintf("raw %d%s", a.d.Seq, from)
		}
		return fmt.Sprintf("yield %d%s", a.d.Seq, from)
	case look:
		return "look " + a.at.Sub(epoch).String()
	case over:
		return strings.TrimSpace("over " + a.failure)
	case dropped:
		return "dropped: " + a.err.Error()
	}
	return fmt.Sprintf("%T", a)
}
