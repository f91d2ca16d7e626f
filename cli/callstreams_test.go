package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
)

// TestStreamOnATerminal: a character that came in two pieces is printed whole, nothing controls the terminal, and the
// last line ends.
func TestStreamOnATerminal(t *testing.T) {
	for _, c := range []struct {
		pieces []string
		want   string
	}{
		{[]string{"a\n", "b"}, "a\nb\n"},
		{[]string{"a", "\r\n"}, "a\n"},
		{nil, ""},
		{[]string{"caf\xc3", "\xa9!"}, "café!\n"},
		{[]string{"\xf0", "\x9f", "\x98", "\x80"}, "😀\n"},
		{[]string{"x\x1b[2J\r\ny"}, "x\uFFFD[2J\ny\n"},
		{[]string{"a\xc3"}, "a\uFFFD\n"},
		{[]string{"\xff", "b"}, "\uFFFDb\n"},
	} {
		var out bytes.Buffer
		sink := textSink{out: &callPrinter{results: &out}}
		for _, p := range c.pieces {
			if err := sink.write(client.StreamItem{Data: []byte(p)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := sink.close(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, out.String()); d != "" {
			t.Errorf("%q: %s", c.pieces, d)
		}
	}
}

// TestNotesBesideAStream: on a terminal that has both, a note never stands behind what a stream carried last. Elsewhere what a
// stream carries is left as it is.
func TestNotesBesideAStream(t *testing.T) {
	for _, c := range []struct {
		name         string
		plain, mixed bool
		results      string
		both         string
	}{
		{"a terminal", false, true, "", "running\none two \nartifact\nthree\nstream ended\nlost\n"},
		{"notes elsewhere", false, false, "one two three\n", ""},
		{"results in a pipe", true, false, "one two three", ""},
	} {
		var results, notes bytes.Buffer
		p := &callPrinter{results: &results, notes: &notes, errors: &notes, aside: true, plain: c.plain, mixed: c.mixed}
		if c.mixed {
			p.notes, p.errors = &results, &results
		}
		sink := textSink{out: p}
		p.say("running")
		errs := []error{sink.write(client.StreamItem{Data: []byte("one ")}), sink.write(client.StreamItem{Data: []byte("two ")})}
		p.say("artifact")
		errs = append(errs, sink.write(client.StreamItem{Data: []byte("three")}), sink.close())
		p.say("stream ended")
		p.remark("lost")
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.results+c.both, results.String()); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if want := "running\nartifact\nstream ended\nlost\n"; !c.mixed && notes.String() != want {
			t.Errorf("%s: the notes are %q", c.name, notes.String())
		}
	}
}

// TestStreamLines: what a program reads.
func TestStreamLines(t *testing.T) {
	var out bytes.Buffer
	sink := jsonSink{out: &callPrinter{results: &out}, name: "_default", id: "t-1"}
	for _, item := range []client.StreamItem{{Seq: 0, Data: []byte("<é>")}, {Seq: 1, Data: []byte{}}, {Seq: 1, Data: []byte{0xff}}, {Seq: 2, Event: []byte(`{"a":[1]}`)}} {
		if err := sink.write(item); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"type":"stream","stream":"_default","streamId":"t-1","seq":0,"text":"<é>"}
{"type":"stream","stream":"_default","streamId":"t-1","seq":1,"text":""}
{"type":"stream","stream":"_default","streamId":"t-1","seq":1,"data":"/w=="}
{"type":"stream","stream":"_default","streamId":"t-1","seq":2,"event":{"a":[1]}}
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

// TestStreamFiles: a stream's name never leads out of the directory.
func TestStreamFiles(t *testing.T) {
	v := newStreamView(watchOptions{}, nil, nil)
	for _, c := range []struct{ stream, want string }{
		{"_default", "_default"}, {"_default", "_default-2"}, {"../../etc/passwd", "_._.._etc_passwd"}, {"..", "_."}, {"a\x00b\n", "a_b_"}, {".rc", "_rc"}, {"-rf", "_rf"},
	} {
		if got := v.fileName(c.stream); got != c.want {
			t.Errorf("%q: %q, want %q", c.stream, got, c.want)
		}
	}
}

func TestJSONLines(t *testing.T) {
	next := jsonLines(strings.NewReader("{\"a\":1}\n\n  [2] \nnope\n"))
	var got []string
	for {
		line, err := next()
		if err != nil {
			if errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "line 4 is not JSON") {
				t.Errorf("ended with %v", err)
			}
			break
		}
		got = append(got, string(line))
	}
	if d := cmp.Diff([]string{`{"a":1}`, "[2]"}, got); d != "" {
		t.Error(d)
	}
}

// FuzzPrintableText: nothing but line ends is left of what controls a terminal, whatever an agent sends.
func FuzzPrintableText(f *testing.F) {
	for _, s := range []string{"", "a\n\x1b[31mb", "\xff\xfe", "é\u202e\u2028", "\u009b1m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := printableText(s)
		if !utf8.ValidString(out) {
			t.Fatalf("%q became %q", s, out)
		}
		for _, r := range out {
			if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0) {
				t.Fatalf("%q became %q", s, out)
			}
		}
	})
}
