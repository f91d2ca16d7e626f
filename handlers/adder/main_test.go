package main

import (
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/pluginsdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func added(a, b, sum string) string {
	return "{\n  \"ok\": true,\n  \"a\": " + a + ",\n  \"b\": " + b + ",\n  \"sum\": " + sum + "\n}"
}

func missing(input string) string {
	return "{\n  \"ok\": false,\n  \"error\": \"Missing math_add request with numeric a and b\",\n  \"input\": " + input + "\n}"
}

func TestAdd(t *testing.T) {
	text := func(s string) []pluginsdk.Part { return []pluginsdk.Part{{ID: "request", Text: &s}} }
	raw := func(s ...string) (parts []pluginsdk.Part) {
		for _, part := range s {
			parts = append(parts, pluginsdk.Part{Raw: json.RawMessage(part)})
		}
		return parts
	}
	zeros := strings.Repeat("0", 400)
	for _, tt := range []struct {
		parts []pluginsdk.Part
		want  string
	}{
		{text(`{"kind":"math_add","a":19,"b":23}`), added("19", "23", "42")},
		{text(`{"a":2,"b":3.5}`), added("2", "3.5", "5.5")},
		{text(`{"a":2.5,"b":2.5}`), added("2.5", "2.5", "5.0")},
		{text(`{"a":2.0,"b":3}`), added("2.0", "3", "5.0")},
		{text(`{"a":-0.0,"b":0}`), added("-0.0", "0", "0.0")},
		{text(`{"a":0.25,"b":-1.5}`), added("0.25", "-1.5", "-1.25")},
		{text(`{"a":99999999999999999999,"b":1}`), added("99999999999999999999", "1", "100000000000000000000")},
		{text(`{"a":0.1,"b":0.2}`), added("0.1", "0.2", "0.3")},
		{text(`{"a":1E16,"b":0.00001}`), added("1E16", "0.00001", "10000000000000000.00001")},
		{text(`{"a":1e-2,"b":1e2}`), added("1e-2", "1e2", "100.01")},
		{text(`{"a":1.5e1,"b":0}`), added("1.5e1", "0", "15.0")},
		{text(`{"a":1e400,"b":1` + zeros + `}`), added("1e400", "1"+zeros, "2"+zeros)},
		{text(`{"a":1e-1000,"b":0}`), added("1e-1000", "0", "0."+strings.Repeat("0", 999)+"1")},
		{text(`{"kind":null,"a":1,"b":2,"c":"x"}`), added("1", "2", "3")},
		{append(text("x"), text(`{"a":1,"b":1}`)...), added("1", "1", "2")},
		{raw(`{"partId":"request","a":1,"b":2}`), added("1", "2", "3")},
		{raw(`{"text":5,"a":1,"b":2}`), added("1", "2", "3")},

		{text(`{"kind":"other","a":1,"b":2}`), missing(`"{\"kind\":\"other\",\"a\":1,\"b\":2}"`)},
		{text(`{"a":true,"b":1}`), missing(`"{\"a\":true,\"b\":1}"`)},
		{text(`{"a":"1","b":1}`), missing(`"{\"a\":\"1\",\"b\":1}"`)},
		{text(`{"a":null,"b":1}`), missing(`"{\"a\":null,\"b\":1}"`)},
		{text(`{"a":1}`), missing(`"{\"a\":1}"`)},
		{text(`{"a":NaN,"b":1}`), missing(`"{\"a\":NaN,\"b\":1}"`)},
		{text(`{"a":1,"b":2} x`), missing(`"{\"a\":1,\"b\":2} x"`)},
		{text(`{"a":1e999999999,"b":1}`), missing(`"{\"a\":1e999999999,\"b\":1}"`)},
		{text(`{"a":1,"b":1e-99999999999999999999}`), missing(`"{\"a\":1,\"b\":1e-99999999999999999999}"`)},
		{text(`2 and three ü`), missing(`"2 and three ü"`)},
		{text(`[1,2]`), missing(`"[1,2]"`)},
		{append(text("x"), text("y")...), missing(`"x"`)},
		{raw(`"bare"`), missing(`"[\"bare\"]"`)},
		{nil, missing(`"[]"`)},
	} {
		got, err := json.MarshalIndent(add(tt.parts), "", "  ")
		if err != nil || string(got) != tt.want {
			t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
		}
	}
}
