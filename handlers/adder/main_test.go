package main

import (
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sum(a, b, sum string) string {
	return "{\n  \"ok\": true,\n  \"a\": " + a + ",\n  \"b\": " + b + ",\n  \"sum\": " + sum + "\n}"
}

func missing(input string) string {
	return "{\n  \"ok\": false,\n  \"error\": \"Missing math_add request with numeric a and b\",\n  \"input\": " + input + "\n}"
}

// The outputs are those of the network's own adder, byte for byte.
func TestAdd(t *testing.T) {
	text := func(s string) string {
		b, _ := json.Marshal(s)
		return `[{"partId":"request","text":` + string(b) + `}]`
	}
	tests := []struct{ parts, want string }{
		{text(`{"a":2,"b":3.5}`), sum("2", "3.5", "5.5")},
		{text(`{"a":2.0,"b":3}`), sum("2.0", "3", "5.0")},
		{text(`{"a":-0.0,"b":0}`), sum("-0.0", "0", "0.0")},
		{text(`{"kind":"math_add","a":99999999999999999999,"b":1}`), sum("99999999999999999999", "1", "100000000000000000000")},
		{text(`{"a":1e16,"b":0.00001}`), sum("1e+16", "1e-05", "1e+16")},
		{text(`{"a":0.1,"b":0.2}`), sum("0.1", "0.2", "0.30000000000000004")},
		{text(`{"a":1e308,"b":1e308}`), sum("1e+308", "1e+308", "Infinity")},
		{text(`{"kind":null,"a":1,"b":2,"c":NaN}`), sum("1", "2", "3")},
		{text(`{"kind":"other","a":1,"b":2}`), missing(`"{\"kind\":\"other\",\"a\":1,\"b\":2}"`)},
		{text(`{"a":true,"b":1}`), missing(`"{\"a\":true,\"b\":1}"`)},
		{text(`{"a":"1","b":1}`), missing(`"{\"a\":\"1\",\"b\":1}"`)},
		{text(`{"a":NaN,"b":1}`), missing(`"{\"a\":NaN,\"b\":1}"`)},
		{text(`{"a":1e999,"b":1}`), missing(`"{\"a\":1e999,\"b\":1}"`)},
		{text(`2 and three ü`), missing(`"2 and three \u00fc"`)},
		{text(`[1,2]`), missing(`"[1,2]"`)},
		{`[{"text":"x"},{"text":"{\"a\":1,\"b\":1}"}]`, sum("1", "1", "2")},
		{`[{"partId":"request","a":1,"b":2}]`, sum("1", "2", "3")},
		{`[{"text":5,"a":1,"b":2}]`, sum("1", "2", "3")},
		{`["bare"]`, missing(`"[\"bare\"]"`)},
		{`[]`, missing(`"[]"`)},
	}
	for _, tt := range tests {
		var parts []json.RawMessage
		if err := json.Unmarshal([]byte(tt.parts), &parts); err != nil {
			t.Fatal(err)
		}
		got, err := add(parts)
		if err != nil || got != tt.want {
			t.Errorf("%s gives %s, %v", tt.parts, got, err)
		}
	}
}

// Python raises for an integer that no float comes near to.
func TestTooLarge(t *testing.T) {
	huge := "1" + strings.Repeat("0", 400)
	parts := []json.RawMessage{json.RawMessage(`{"a":` + huge + `,"b":1}`)}
	if got, err := add(parts); err == nil || err.Error() != "int too large to convert to float" {
		t.Errorf("%s, %v", got, err)
	}
}
