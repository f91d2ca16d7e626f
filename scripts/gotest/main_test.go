package main

import (
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const events = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestX"}
{"Action":"output","Package":"m/a","Test":"TestX","Output":"=== RUN   TestX\n"}
{"Action":"output","Package":"m/a","Test":"TestX","Output":"    x_test.go:7: machine: no such thing: here\n"}
{"Action":"output","Package":"m/a","Test":"TestX","Output":"--- SKIP: TestX (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestX"}
{"Action":"pass","Package":"m/a","Test":"TestY","Elapsed":12.3}
{"Action":"pass","Package":"m/a","Test":"TestY/part","Elapsed":12.2}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.5s\n"}
{"Action":"pass","Package":"m/a"}
{"Action":"start","Package":"m/none"}
{"Action":"output","Package":"m/none","Output":"?   \tm/none\t[no test files]\n"}
{"Action":"skip","Package":"m/none"}
{"Action":"build-output","ImportPath":"m/c","Output":"c.go:1: undefined: y\n"}
{"Action":"start","Package":"m/b"}
{"Action":"output","Package":"m/b","Test":"TestZ","Output":"=== RUN   TestZ\n"}
{"Action":"output","Package":"m/b","Test":"TestZ","Output":"    z_test.go:9: wrong\n"}
{"Action":"output","Package":"m/b","Test":"TestZ","Output":"        {\"level\":\"INFO\"}\n"}
{"Action":"output","Package":"m/b","Test":"TestZ","Output":"--- FAIL: TestZ (0.00s)\n"}
{"Action":"fail","Package":"m/b","Test":"TestZ"}
{"Action":"output","Package":"m/b","Test":"TestZZ/part","Output":"    zz_test.go:3: bad part\n"}
{"Action":"fail","Package":"m/b","Test":"TestZZ/part"}
{"Action":"output","Package":"m/b","Test":"TestZZ","Output":"--- FAIL: TestZZ (0.00s)\n"}
{"Action":"fail","Package":"m/b","Test":"TestZZ"}
{"Action":"output","Package":"m/b","Test":"TestGood","Output":"    good_test.go:1: never shown\n"}
{"Action":"pass","Package":"m/b","Test":"TestGood"}
{"Action":"output","Package":"m/b","Test":"TestCut","Output":"panic: oh\n"}
{"Action":"output","Package":"m/b","Output":"FAIL\n"}
{"Action":"output","Package":"m/b","Output":"FAIL\tm/b\t0.1s\n"}
{"Action":"fail","Package":"m/b"}
not JSON
`

const want = `ok  	m/a	0.5s	[1 of 3 packages, N s]
c.go:1: undefined: y
    z_test.go:9: wrong
        {"level":"INFO"}
--- FAIL: TestZ (0.00s)
    zz_test.go:3: bad part
--- FAIL: TestZZ (0.00s)
FAIL
FAIL	m/b	0.1s
panic: oh
m/b failed	[3 of 3 packages, N s]
not JSON
skipped: machine: no such thing: here
`

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		name    string
		allowed []string
		ci      bool
		refused bool
	}{
		{"a developer's machine", nil, false, false},
		{"CI", nil, true, true},
		{"CI, a reason that counts", []string{"machine: no such thing: here"}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out, 3)
			r.read(strings.NewReader(events))
			if got := r.close(tt.allowed, tt.ci); got != tt.refused {
				t.Errorf("refused %t", got)
			}
			expect := want
			if tt.refused {
				expect += "  this machine must not skip for that reason: see scripts/machine-skips\n"
			}
			expect += " N s for TestY of m/a\n3 of 3 packages in N s\ntests: 3 passed, 3 failed, 1 skipped\n" +
				"failed: TestZ of m/b\n  z_test.go:9: wrong\nfailed: TestZZ/part of m/b\n  zz_test.go:3: bad part\nfailed: TestCut of m/b\n  panic: oh\n"
			if d := cmp.Diff(expect, regexp.MustCompile(`\d+ s\b`).ReplaceAllString(out.String(), "N s")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	all, err := reasons("../machine-skips")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, r := range all {
		if !strings.HasPrefix(r, "machine: ") {
			t.Errorf("%q does not begin with machine:", r)
		}
	}
}

// What an ordinary user's run skips is what root's run does, whatever signs are in the names.
func TestSkippedTests(t *testing.T) {
	r := newReport(io.Discard, 1)
	tests := []aTest{{"m/a", "TestX"}, {"m/a", "TestY/a_(b)|c/[d]"}, {"m/b", "TestX"}}
	for _, test := range tests {
		r.takeLocked(event{Action: "start", Package: test.Package})
		r.takeLocked(event{Action: "skip", Package: test.Package, Test: test.Name})
	}
	file := filepath.Join(t.TempDir(), "skipped")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	got, err := readTests(file)
	if d := cmp.Diff(tests, got); err != nil || d != "" {
		t.Error(err, d)
	}
	if d := cmp.Diff([]string{"m/a", "m/b"}, packages(got)); d != "" {
		t.Error(d)
	}
	if got, want := pattern(got), `^TestX$|^TestY$/^a_\(b\)\|c$/^\[d\]$`; got != want {
		t.Errorf("pattern %s, want %s", got, want)
	}
	again := newReport(io.Discard, 1)
	again.takeLocked(event{Action: "pass", Package: "m/a", Test: "TestX"})
	again.takeLocked(event{Action: "skip", Package: "m/b", Test: "TestX"})
	if d := cmp.Diff(tests[1:2], again.missing(tests)); d != "" {
		t.Error(d)
	}
}

func TestSlowFirst(t *testing.T) {
	if rank(module+"/e2e") >= rank(module+"/cli") || rank(module+"/cli") >= rank(module+"/proto") {
		t.Error("slow packages are not first")
	}
}
