package pytext

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The expectations were printed by Python 3.
func TestForms(t *testing.T) {
	tests := []struct{ doc, dumps, str string }{
		{`5`, `5`, `5`},
		{`-0`, `0`, `0`},
		{`-0.0`, `-0.0`, `-0.0`},
		{`123456789012345678901234567890`, `123456789012345678901234567890`, `123456789012345678901234567890`},
		{`1.0`, `1.0`, `1.0`},
		{`1e0`, `1.0`, `1.0`},
		{`1E16`, `1e+16`, `1e+16`},
		{`9999999999999998.0`, `9999999999999998.0`, `9999999999999998.0`},
		{`0.0001`, `0.0001`, `0.0001`},
		{`0.00001`, `1e-05`, `1e-05`},
		{`1.5e300`, `1.5e+300`, `1.5e+300`},
		{`5e-324`, `5e-324`, `5e-324`},
		{`1e999`, `Infinity`, `inf`},
		{`NaN`, `NaN`, `nan`},
		{`[-Infinity]`, `[-Infinity]`, `[-inf]`},
		{`true`, `true`, `True`},
		{`null`, `null`, `None`},
		{`[]`, `[]`, `[]`},
		{`{}`, `{}`, `{}`},
		{`[1, "a",{"b":[null,false]}]`, `[1, "a", {"b": [null, false]}]`, `[1, 'a', {'b': [None, False]}]`},
		{`{"b":1,"a":2,"b":3}`, `{"b": 3, "a": 2}`, `{'b': 3, 'a': 2}`},
		{`"ü<&>\u20ac😀\ud83d\ude00\u007f\n\"\\/"`, `"\u00fc<&>\u20ac\ud83d\ude00\ud83d\ude00\u007f\n\"\\/"`, "ü<&>€😀😀\x7f\n\"\\/"},
		{`["it's","a\"b'c","\u007f\u0001\u200b\n"]`, `["it's", "a\"b'c", "\u007f\u0001\u200b\n"]`, `["it's", 'a"b\'c', '\x7f\x01\u200b\n']`},
	}
	for _, tt := range tests {
		v, err := Decode(tt.doc)
		if err != nil {
			t.Errorf("%s: %v", tt.doc, err)
			continue
		}
		if got := JSON(v); got != tt.dumps {
			t.Errorf("dumps of %s is %s, want %s", tt.doc, got, tt.dumps)
		}
		if got := Str(v); got != tt.str {
			t.Errorf("str of %s is %s, want %s", tt.doc, got, tt.str)
		}
	}
}

func TestIndented(t *testing.T) {
	v, err := Decode(`{"a":1,"b":[],"c":[1,{"d":{}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"a\": 1,\n  \"b\": [],\n  \"c\": [\n    1,\n    {\n      \"d\": {}\n    }\n  ]\n}"
	if got := Indented(v, 2); got != want {
		t.Errorf("got %s", got)
	}
}

func TestRefused(t *testing.T) {
	for _, doc := range []string{``, ` `, `tru`, `01`, `1.`, `.5`, `+1`, `"a`, `"\x"`, `"\u12"`, "\"\x01\"", `[1,]`, `{"a" 1}`, `{a:1}`, `{"a":1,}`, `1 2`, `nan`, "\ufeff1", strings.Repeat("[", 5000)} {
		if v, err := Decode(doc); err == nil {
			t.Errorf("%.20q accepted as %v", doc, v)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,"x\ud83d\ude00"]}`, `[NaN]`, `"\ud800"`, `-`, `{"":{}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		v, err := Decode(doc)
		if err != nil {
			return
		}
		text := JSON(v)
		again, err := Decode(text)
		if err != nil {
			t.Fatalf("%q does not read back: %v", text, err)
		}
		if back := JSON(again); back != text {
			t.Errorf("%q reads back as %q", text, back)
		}
		if !strings.Contains(text, "NaN") && !strings.Contains(text, "Infinity") && !json.Valid([]byte(text)) {
			t.Errorf("%q is not JSON", text)
		}
		_ = Str(v)
	})
}

func TestFloatBounds(t *testing.T) {
	if got := Float(math.MaxFloat64); got != "1.7976931348623157e+308" {
		t.Error(got)
	}
}
