package logpump

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
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
	for _, s := range []string{`{"@message": 1}`, `{"msg":"x","level":5}`, "[WARN] x", "<4>x", "[", "{}", `{"msg":"a","b":{"c":[null]}}`, "\xff\xfe"} {
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
