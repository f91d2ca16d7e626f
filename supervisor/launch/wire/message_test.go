package wire

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start() *Start {
	return &Start{
		UID: 60600, GID: 60600, Args: TextsOf([]string{"echo", "\xff\x01"}), Env: TextsOf([]string{"A=b"}), Dir: "/",
		Rlimits: []Rlimit{{Resource: 7, Value: 1 << 63}}, Guard: &Guard{Read: []string{"/usr"}, Version: 2},
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequests(t *testing.T) {
	for name, c := range map[string]struct {
		request Request
		files   int
		wrong   string // part of the error; "" for none
	}{
		"hello":                  {Request{Call: 1, Hello: &Hello{Version: 1}}, 0, ""},
		"start":                  {Request{Call: 2, Start: start()}, StartFiles, ""},
		"start without a group":  {Request{Call: 2, Start: start()}, StartFiles - 1, ""},
		"signal":                 {Request{Call: 3, Signal: &Signal{Process: 2, Signal: 15}}, 0, ""},
		"make":                   {Request{Call: 4, Make: &Make{UID: 60600, GID: 60600}}, 0, ""},
		"remove":                 {Request{Call: 5, Remove: &Remove{Dir: "/run/x"}}, 0, ""},
		"nothing":                {Request{Call: 1}, 0, "asks for 0 things"},
		"two things":             {Request{Call: 1, Hello: &Hello{}, Make: &Make{UID: 1, GID: 1}}, 0, "asks for 2 things"},
		"too few descriptors":    {Request{Call: 2, Start: start()}, StartFiles - 2, "3 descriptors came with it"},
		"descriptors for a make": {Request{Call: 4, Make: &Make{UID: 1, GID: 1}}, 1, "1 descriptors came with it, and not 0"},
		"root":                   {Request{Call: 4, Make: &Make{GID: 1}}, 0, "user 0 with group 1 cannot run a handler"},
		"the group of root":      {Request{Call: 2, Start: func() *Start { s := start(); s.GID = 0; return s }()}, StartFiles, "with group 0"},
		"nobody's number":        {Request{Call: 4, Make: &Make{UID: 1<<32 - 1, GID: 1}}, 0, "cannot run a handler"},
		"no program":             {Request{Call: 2, Start: func() *Start { s := start(); s.Args = nil; return s }()}, StartFiles, "names no program"},
		"a zero byte":            {Request{Call: 2, Start: func() *Start { s := start(); s.Env = TextsOf([]string{"A=\x00"}); return s }()}, StartFiles, "zero byte"},
		"a relative directory":   {Request{Call: 2, Start: func() *Start { s := start(); s.Dir = "x"; return s }()}, StartFiles, "is not an absolute path"},
		"a relative rule":        {Request{Call: 2, Start: func() *Start { s := start(); s.Guard.Write = []string{"x"}; return s }()}, StartFiles, "is not an absolute path"},
		"no signal":              {Request{Call: 3, Signal: &Signal{Process: 2}}, 0, "0 is not a signal"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeRequest(encode(t, c.request), c.files)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("the error is %v, not %q", err, c.wrong)
				}
				return
			}
			if d := cmp.Diff(c.request, got); err != nil || d != "" {
				t.Errorf("%v\n%s", err, d)
			}
		})
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	for _, text := range []string{
		"", "{", "null", "[]", `{"call":1,"hello":{"version":1}} x`, `{"call":1,"hello":{"version":1},"shell":"/bin/sh"}`,
		`{"call":-1,"hello":{}}`, strings.Repeat(" ", MaxMessage+1),
	} {
		if r, err := DecodeRequest([]byte(text), 0); err == nil {
			t.Errorf("%.40q is the request %+v", text, r)
		}
	}
	for _, text := range []string{"", `{"call":1,"error":"x","dir":"/x"}`, `{"call":1,"started":{"pid":1}}`, `{"call":1,"dir":"` + strings.Repeat("x", maxPath+1) + `"}`} {
		if a, err := DecodeAnswer([]byte(text)); err == nil {
			t.Errorf("%.40q is the answer %+v", text, a)
		}
	}
}

// FuzzRequest: what a launcher takes never asks for root or has a zero byte, and means the same when it is written again.
func FuzzRequest(f *testing.F) {
	f.Add(encode(f, Request{Call: 2, Start: start()}), StartFiles)
	f.Add(encode(f, Request{Call: 1, Hello: &Hello{Version: Version}}), 0)
	f.Add(encode(f, Request{Call: 3, Signal: &Signal{Process: 2, Signal: 9}}), 0)
	f.Add(encode(f, Request{Call: 4, Make: &Make{UID: 60601, GID: 60601}}), 0)
	f.Add(encode(f, Request{Call: 5, Remove: &Remove{Dir: "/run/p-x"}}), 0)
	f.Fuzz(func(t *testing.T, message []byte, files int) {
		r, err := DecodeRequest(message, files)
		if err != nil {
			return
		}
		if s := r.Start; s != nil && (s.UID == 0 || s.GID == 0 || len(s.Args) == 0 || strings.Contains(strings.Join(append(s.Args.Strings(), s.Env.Strings()...), ""), "\x00")) {
			t.Fatalf("taken: %+v", s)
		}
		again, err := DecodeRequest(encode(t, r), files)
		if err != nil || string(encode(t, again)) != string(encode(t, r)) {
			t.Fatalf("%v\n%+v\n%+v", err, r, again)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(encode(f, Answer{Call: 2, Started: &Started{PID: 77}}))
	f.Add(encode(f, Answer{Call: 2, Exit: &Exit{Code: -1, Signal: 9}}))
	f.Add(encode(f, Answer{Call: 2, Error: "no"}))
	f.Fuzz(func(t *testing.T, message []byte) {
		a, err := DecodeAnswer(message)
		if err == nil && a.Started != nil && a.Started.PID <= 1 {
			t.Fatalf("taken: %+v", a)
		}
	})
}

// closeAfter closes files with the test.
func closeAfter(t *testing.T, files ...*os.File) {
	t.Helper()
	t.Cleanup(func() { CloseAll(files) })
}
