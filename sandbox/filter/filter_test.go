package filter

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMatch(t *testing.T) {
	tests := []struct {
		expr, meta, data string
		want             bool
	}{
		{`meta.instance == 'AG-1' || meta.broadcast == "true"`, `{"instance":"AG-1"}`, ``, true},
		{`meta.instance == 'AG-1' || meta.broadcast == "true"`, `{"instance":"AG-2"}`, ``, false},
		{`meta.instance == 'AG-1' || meta.broadcast == "true"`, `{"broadcast":"true"}`, ``, true},
		{`meta.instance == 'AG-1' || meta.broadcast == "true"`, `{"broadcast":true}`, ``, false},
		{`meta.instance == 'AG-1' || meta.broadcast == "true"`, ``, ``, false},
		{`meta.sender != 'me'`, `{"sender":"you"}`, ``, true},
		{`meta.sender != 'me'`, `{"sender":"me"}`, ``, false},
		{`meta.sender != 'me'`, `{}`, ``, false},
		{`!(meta.sender == 'me')`, `{}`, ``, false},
		{`uuid == 'Serhii' && !admin && age >= 32`, `{"uuid":"Serhii","admin":false,"age":32}`, ``, true},
		{`uuid == 'Serhii' && !admin && age >= 32`, `{"uuid":"Serhii","admin":true,"age":32}`, ``, false},
		{`data.a["b c"][1] == 7`, ``, `{"a":{"b c":[1,7]}}`, true},
		{`data.n * 2 + 1 == 7 && data.n % 2 == 1`, ``, `{"n":3}`, true},
		{`data.n - 1 - 1 == 1`, ``, `{"n":3}`, true},
		{`data.n / 0 == 1`, ``, `{"n":3}`, false},
		{`-data.n < -2`, ``, `{"n":3}`, true},
		{`meta.k LIKE "*Room*"`, `{"k":"my ROOMS"}`, ``, true},
		{`meta.k like "room*"`, `{"k":"Room.1"}`, ``, true},
		{`meta.k like "*room"`, `{"k":"Room.1"}`, ``, false},
		{`meta.k like "a\*b"`, `{"k":"a*b"}`, ``, true},
		{`meta.k like "a\*b"`, `{"k":"axb"}`, ``, false},
		{`meta.k like "x*"`, `{"k":["a","xy"]}`, ``, true},
		{`meta.k CONTAINS "b"`, `{"k":"abc"}`, ``, true},
		{`meta.k contains "b"`, `{"k":["a","b"]}`, ``, true},
		{`meta.k contains 2`, `{"k":[1,2]}`, ``, true},
		{`meta.k contains 3`, `{"k":[1,2]}`, ``, false},
		{`meta.a == "x" || meta.b == "y"`, `{"b":"y"}`, ``, true},
		{`meta.a == "x" && meta.b == "y"`, `{"b":"y"}`, ``, false},
		{`meta.q == "it's"`, `{"q":"it's"}`, ``, true},
		{`meta.q == 'it\'s'`, `{"q":"it's"}`, ``, true},
		{`meta.n == "1"`, `{"n":1}`, ``, false},
		{`meta.n != "1"`, `{"n":1}`, ``, true},
	}
	for _, tt := range tests {
		e, err := Parse(tt.expr)
		if err != nil {
			t.Errorf("Parse(%s): %v", tt.expr, err)
			continue
		}
		if got := e.Match([]byte(tt.meta), []byte(tt.data)); got != tt.want {
			t.Errorf("%s with meta %s, data %s = %v, want %v", tt.expr, tt.meta, tt.data, got, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{``, `meta.`, `meta.a ==`, `(meta.a`, `meta.a)`, `'open`, `meta.a = 1`, `1.2.3 == 1`, `meta[x] == 1`, `a b`, `ü$`,
		strings.Repeat("(", 1000), strings.Repeat("!", 1000) + "a", strings.Repeat("a ", MaxLength)} {
		if _, err := Parse(s); err == nil {
			t.Errorf("Parse(%.40q) accepted", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`meta.instance == 'AG-1' || meta.broadcast == "true"`, `{"instance":"AG-1"}`)
	f.Add(`data.a["b"][1] like "*x\*" && !(1+2 > -3 % 2)`, `{"a":{"b":[1,"x*"]}}`)
	f.Fuzz(func(t *testing.T, expr, doc string) {
		e, err := Parse(expr)
		if err != nil {
			return
		}
		if json.Valid([]byte(doc)) {
			e.Match([]byte(doc), []byte(doc))
		}
	})
}

// A field has the value that it has when all is decoded.
func FuzzField(f *testing.F) {
	for _, doc := range []string{
		`{"a":{"b":["x",1,true,null]}}`, `{"a":1,"a":{"b":[1,2]}}`, `{"\u0061":{"b":"\n"}}`, "{\"\xff\":1,\"a\":null}", ` [ 1 , {"a":"\ud800"} ] `, `{"b":"\ufffd"}`, `"a"`, `null`,
		`{"a":{},"b":[]}`, `{"a":1e400}`,
	} {
		f.Add(doc, "a", "b", 1)
		f.Add(doc, "b", "a", 0)
		f.Add(doc, "\ufffd", "", -1)
	}
	f.Fuzz(func(t *testing.T, doc, first, second string, index int) {
		var v any
		if json.Unmarshal([]byte(doc), &v) != nil {
			return
		}
		for _, path := range [][]any{{}, {first}, {first, second}, {first, second, index}, {index}, {index, first}} {
			var want any = v
			for _, step := range path {
				var inner any
				switch step := step.(type) {
				case string:
					m, _ := want.(map[string]any)
					inner = m[step]
				case int:
					if a, _ := want.([]any); step >= 0 && step < len(a) {
						inner = a[step]
					}
				}
				want = inner
			}
			if want == nil {
				want = missing{}
			}
			got := field{data: true, path: path}.eval(scope{data: bytes.TrimSpace([]byte(doc))})
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%q of %s: %#v instead of %#v", path, doc, got, want)
			}
		}
	})
}
