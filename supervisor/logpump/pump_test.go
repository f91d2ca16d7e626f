package logpump

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pump(t *testing.T) (*Pump, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
		if len(g) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	p, err := New(Config{Log: log.With("handler", "h"), Now: func() time.Time { return time.Unix(0, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return p, &out
}

func TestLines(t *testing.T) {
	tests := []struct{ in, want string }{
		{`plain text`, `level=INFO msg="plain text" handler=h`},
		{`[WARN] careful`, `level=WARN msg=careful handler=h`},
		{`[ERROR]  plugin: no`, `level=ERROR msg="plugin: no" handler=h`},
		{`[1/2] step`, `level=INFO msg="[1/2] step" handler=h`},
		{`<3>broken`, `level=ERROR msg=broken handler=h`},
		{`<4>hm`, `level=WARN msg=hm handler=h`},
		{`<6>fine`, `level=INFO msg=fine handler=h`},
		{`<b>bold</b>`, `level=INFO msg=<b>bold</b> handler=h`},
		{`{"time":"2020-01-01T00:00:00Z","level":"WARN","msg":"x","n":1,"s":"t","o":{"a":[1]},"big":12345678901234567890}`,
			`level=WARN msg=x handler=h big=12345678901234567890 n=1 o="{\"a\":[1]}" s=t`},
		{`{"level":"ERROR+2","msg":"x"}`, `level=ERROR+2 msg=x handler=h`},
		{`{"@level":"debug","@message":"from hclog","@module":"m","@timestamp":"2020-01-01T00:00:00.000000Z"}`, `level=DEBUG msg="from hclog" handler=h module=m`},
		{`{"@message": 1}`, `level=INFO msg="{\"@message\": 1}" handler=h`},
		{`{"@level": [], "@message": "m", "@timestamp": {}}`, `level=INFO msg=m handler=h @level=[] @timestamp={}`},
		{`{"msg":"spoof","handler":"other","pid":1}`, `level=INFO msg=spoof handler=h handler_=other pid_=1`},
		{`{"msg":`, `level=INFO msg="{\"msg\":" handler=h`},
		// what the libraries write, each as it comes out of the box
		{`{"level":"warn","ts":1700000000.5,"logger":"main","caller":"x.go:1","msg":"zap","n":3}`, `level=WARN msg=zap handler=h caller=x.go:1 logger=main n=3`},
		{`{"level":"error","time":1700000000,"message":"zerolog"}`, `level=ERROR msg=zerolog handler=h`},
		{`{"level":"fatal","msg":"logrus","time":"2020-01-01T00:00:00+01:00"}`, `level=ERROR msg=logrus handler=h`},
		{`{"level":40,"time":1531171074631,"pid":657,"hostname":"box","msg":"pino"}`, `level=WARN msg=pino handler=h hostname=box pid_=657`},
		{`{"name":"app","hostname":"box","pid":1,"level":20,"msg":"bunyan","time":"2020-01-01T00:00:00.000Z","v":0}`, `level=DEBUG msg=bunyan handler=h hostname=box name=app pid_=1 v=0`},
		{`{"asctime":"2020-01-01 00:00:00,123","name":"root","levelname":"CRITICAL","message":"python"}`, `level=ERROR msg=python handler=h name=root`},
		{`{"levelno":30,"created":1700000000.25,"message":"python"}`, `level=WARN msg=python handler=h`},
		{`{"event":"structlog","level":"debug","timestamp":"2020-01-01T00:00:00Z"}`, `level=DEBUG msg=structlog handler=h`},
		{`time=2020-01-01T00:00:00.000Z level=WARN msg="slog as text" n=1 s="a b"`, `level=WARN msg="slog as text" handler=h n=1 s="a b"`},
		{`time="2020-01-01T00:00:00Z" level=error msg=logrus`, `level=ERROR msg=logrus handler=h`},
		{`level=what msg=x`, `level=INFO msg="level=what msg=x" handler=h`},
		{`time=money is all`, `level=INFO msg="time=money is all" handler=h`},
		{`ERRO[0000] x`, `level=INFO msg="ERRO[0000] x" handler=h`},
		{`WARN[0000] logrus on a terminal`, `level=WARN msg="logrus on a terminal" handler=h`},
		{`WARNING:root:python`, `level=WARN msg=python handler=h`},
		{`ERROR: pip`, `level=ERROR msg=pip handler=h`},
		{`error: compiler`, `level=ERROR msg=compiler handler=h`},
		{`Error while reading`, `level=INFO msg="Error while reading" handler=h`},
		{`ERROR while reading`, `level=ERROR msg="while reading" handler=h`},
		{`information`, `level=INFO msg=information handler=h`},
		{`E0102 15:04:05.000000    123 file.go:1] klog`, `level=ERROR msg="E0102 15:04:05.000000    123 file.go:1] klog" handler=h`},
		{`2020-01-01 00:00:00,123 - app.db - WARNING - slow`, `level=WARN msg=slow handler=h logger=app.db`},
		{"2020-01-01T00:00:00.000Z\tERROR\tmain\tzap console", `level=ERROR msg="main\tzap console" handler=h`},
		{`2020/01/01 00:00:00 plain log package`, `level=INFO msg="2020/01/01 00:00:00 plain log package" handler=h`},
		{`2 ERROR`, `level=INFO msg="2 ERROR" handler=h`},
	}
	for _, tt := range tests {
		p, out := pump(t)
		p.Copy(strings.NewReader(tt.in + "\n"))
		if d := cmp.Diff(tt.want+"\n", out.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.in, d)
		}
	}
}

func TestPanicIsAnErrorToItsEnd(t *testing.T) {
	p, out := pump(t)
	p.Copy(strings.NewReader("before\npanic: boom\n\ngoroutine 1 [running]:\nmain.main()\n{\"level\":\"INFO\",\"msg\":\"after\"}\n"))
	want := "level=INFO msg=before handler=h\nlevel=ERROR msg=\"panic: boom\" handler=h\nlevel=ERROR msg=\"goroutine 1 [running]:\" handler=h\n" +
		"level=ERROR msg=main.main() handler=h\nlevel=INFO msg=after handler=h\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"panic: boom", "goroutine 1 [running]:", "main.main()"}, p.Panic()); d != "" {
		t.Error(d)
	}
}

func TestLongLineIsCutAndMarked(t *testing.T) {
	long := strings.Repeat("x", 3*MaxLine)
	for name, feed := range map[string]func(*Pump){
		"reader": func(p *Pump) { p.Copy(strings.NewReader(long + "\nnext\n")) },
		"writer": func(p *Pump) {
			w := p.Writer()
			for b := []byte(long + "\nnext"); len(b) > 0; {
				n := min(len(b), 1000)
				_, _ = w.Write(b[:n])
				b = b[n:]
			}
			_ = w.Close()
		},
	} {
		p, out := pump(t)
		feed(p)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || !strings.HasSuffix(lines[0], "cut=true") || len(lines[0]) > MaxLine+100 || lines[1] != "level=INFO msg=next handler=h" {
			t.Errorf("%s: %d records, the first of %d bytes", name, len(lines), len(lines[0]))
		}
	}
}

// A flood is cut to the rate, says so, and does not hide errors; crash records have its end all the same.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out testutil.Buffer // records also come from a timer
		buffer := &Buffer{}
		p, err := New(Config{Log: slog.New(slog.NewJSONHandler(&out, nil)), Buffer: buffer, Handler: "h"})
		if err != nil {
			t.Fatal(err)
		}
		var in strings.Builder
		for i := range 3 * Burst {
			fmt.Fprintf(&in, "line %d\n", i)
		}
		in.WriteString("[ERROR] out of paper\n")
		p.Copy(strings.NewReader(in.String()))
		if got := strings.Count(out.String(), "\n"); got != Burst-reserved+1 {
			t.Errorf("%d records at once", got)
		}
		if !strings.Contains(out.String(), "out of paper") {
			t.Error("the error was dropped")
		}
		time.Sleep(reportAfter)
		synctest.Wait()
		want := fmt.Sprintf("dropped %d lines of output that came faster than %d a second", 2*Burst+reserved, Rate)
		if last := buffer.Tail("h", 1); len(last) != 1 || last[0].Message != want || last[0].Level != slog.LevelWarn {
			t.Errorf("the last record is %+v", last)
		}
		if d := cmp.Diff([]string{fmt.Sprintf("line %d", 3*Burst-1), "[ERROR] out of paper"}, p.Tail(2)); d != "" {
			t.Error(d)
		}
		// The rate comes back with time, and what is dropped at the very end is reported at the end.
		time.Sleep(time.Second)
		out.Reset()
		p.Copy(strings.NewReader(strings.Repeat("again\n", 3*Rate)))
		if got := strings.Count(out.String(), "again"); got < Rate || got > 2*Rate+reserved {
			t.Errorf("%d records after two seconds", got)
		}
		p.Close()
		if !strings.Contains(out.String(), `"dropped":`) {
			t.Error("the end does not say what was dropped")
		}
	})
}

func TestBuffer(t *testing.T) {
	b := &Buffer{}
	at := time.Unix(0, 0)
	add := func(handler string, n int) {
		at = at.Add(time.Second)
		b.add(Record{Time: at, Handler: handler, Message: fmt.Sprint(n)})
	}
	for i := range bufferLines + 10 {
		add("a", i)
	}
	add("b", 1)
	texts := func(rs []Record) (out []string) {
		for _, r := range rs {
			out = append(out, r.Handler+r.Message)
		}
		return out
	}
	if got := b.Tail("a", 2*bufferLines); len(got) != bufferLines || got[0].Message != "10" {
		t.Errorf("%d records from %v", len(got), got[0])
	}
	if d := cmp.Diff([]string{"a1009", "b1"}, texts(b.Tail("", 2))); d != "" {
		t.Error(d)
	}
	if b.Tail("nobody", 5) != nil || (*Buffer)(nil).Tail("", 5) != nil {
		t.Error("records of nobody")
	}
	for i := range 10 { // bounded by bytes too
		b.add(Record{Handler: "big", Message: strings.Repeat("x", bufferBytes/5), PID: i})
	}
	if got := b.Tail("big", 100); len(got) != 4 || got[3].PID != 9 {
		t.Errorf("%d big records", len(got))
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started, slow := make(chan struct{}), make(chan struct{})
	var got []Record
	done := make(chan error, 1)
	go func() {
		done <- b.Follow(ctx, "a", 1, func(r Record) error {
			if got = append(got, r); len(got) == 1 {
				close(started)
				<-slow
			}
			if r.Message == "last" {
				return io.EOF
			}
			return nil
		})
	}()
	<-started
	for i := range followBuffer + 5 {
		add("a", i)
	}
	add("b", 2)
	close(slow)
	for delivered := false; !delivered; { // until the reader has room again
		b.mu.Lock()
		for rd := range b.readers {
			delivered = len(rd.records) < followBuffer
		}
		b.mu.Unlock()
	}
	b.add(Record{Handler: "a", Message: "last"})
	if err := <-done; err != io.EOF {
		t.Fatal(err)
	}
	if len(got) != 2+followBuffer || got[0].Message != "1009" || got[1].Message != "0" || got[len(got)-1].Missed != 5 {
		t.Errorf("%d records, from %+v to %+v", len(got), got[:2], got[len(got)-1])
	}
	b.SetCrash("a", Crash{Text: "x", Lines: []string{"y"}})
	if last := b.Tail("a", 1); last[0].Crash == nil || last[0].Message != "x" || last[0].Crash.Lines != nil {
		t.Errorf("the crash as a record is %+v", last[0])
	}
	if c, ok := b.Crash("a"); !ok || c.Text != "x" || len(c.Lines) != 1 {
		t.Errorf("crash %v", c)
	}
	b.Forget("a")
	if _, ok := b.Crash("a"); ok || len(b.Tail("a", 1)) != 0 || len(b.readers) != 0 {
		t.Error("something was not forgotten")
	}
}

func TestTail(t *testing.T) {
	p, _ := pump(t)
	var in strings.Builder
	for i := range Kept + 50 {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	p.Copy(strings.NewReader(in.String()))
	if got := p.Tail(Kept); len(got) != Kept || got[0] != "line 50" || got[Kept-1] != fmt.Sprintf("line %d", Kept+49) {
		t.Errorf("tail of %d lines from %q to %q", len(got), got[0], got[len(got)-1])
	}
	if d := cmp.Diff([]string{fmt.Sprintf("line %d", Kept+48), fmt.Sprintf("line %d", Kept+49)}, p.Tail(2)); d != "" {
		t.Error(d)
	}
}

func TestHandlersTimeIsKeptWhenPlausible(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	p, err := New(Config{Log: slog.New(slog.NewJSONHandler(&out, nil)), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	p.Copy(strings.NewReader(`{"time":"2030-01-01T11:59:59.5Z","msg":"a"}` + "\n" + `{"time":"1999-01-01T00:00:00Z","msg":"b"}` + "\n"))
	want := `{"time":"2030-01-01T11:59:59.5Z","level":"INFO","msg":"a"}` + "\n" + `{"time":"2030-01-01T12:00:00Z","level":"INFO","msg":"b"}` + "\n"
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"@message": 1}`, `{"msg":"x","level":5}`, "[WARN] x", "<4>x", "[", "{}", `{"msg":"a","b":{"c":[null]}}`, "\xff\xfe", `time=x level=warn msg="a\xff"`, "2020-01-01 - a - ERROR - b", "E0102 15:04", `{"level":1e400,"msg":"","ts":-1}`, "WARNING:", "ERROR"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e := Parse(line)
		if !utf8.ValidString(e.Message) {
			t.Errorf("message of %q is not valid UTF-8", line)
		}
		if len(e.Attrs) > maxAttrs {
			t.Errorf("%d attributes", len(e.Attrs))
		}
		p, err := New(Config{Log: slog.New(slog.NewJSONHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		p.Copy(bytes.NewReader(line))
	})
}

// A line that is long counts as several: the log is bounded in bytes as well.
func TestLongLinesCost(t *testing.T) {
	var l limiter
	now := time.Unix(0, 0)
	taken := 0
	for range Burst {
		if l.allow(now, MaxLine, true, func() {}) {
			taken++
		}
	}
	if bytes := taken * MaxLine; bytes > Burst*lineCost || bytes < Burst*lineCost/2 {
		t.Errorf("%d bytes at once", bytes)
	}
	l.take(true)
}
