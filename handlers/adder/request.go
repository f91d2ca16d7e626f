package main

import (
	"encoding/json"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

// document is the text of a part, or the part itself when it has no text.
func document(p pluginsdk.Part) []byte {
	if p.Text != nil {
		return []byte(*p.Text)
	}
	return p.Raw
}

// request returns the first text of a request, or all its parts as they came when there is no text.
func request(parts []pluginsdk.Part) string {
	var all []string
	for _, p := range parts {
		if p.Text != nil {
			return *p.Text
		}
		all = append(all, string(p.Raw))
	}
	return "[" + strings.Join(all, ",") + "]"
}

// numbers returns the members a and b of a JSON object; ok is false when they are not both numbers.
func numbers(document []byte) (a, b json.Number, ok bool) {
	var o map[string]json.RawMessage
	if json.Unmarshal(document, &o) != nil {
		return "", "", false
	}
	if kind := string(o["kind"]); kind != "" && kind != "null" && kind != `"math_add"` {
		return "", "", false
	}
	return json.Number(o["a"]), json.Number(o["b"]), isNumber(o["a"]) && isNumber(o["b"])
}
