package config

import (
	"strings"
	"testing"
)

// TestFileEncodings: what an editor adds to a file does not matter, and what hides keys is an error.
func TestFileEncodings(t *testing.T) {
	for content, want := range map[string]string{
		"drain: 5s\n":                      "",
		"\xef\xbb\xbfdrain: 5s\r\n":        "",
		"---\ndrain: 5s\n":                 "",
		"--- # settings\ndrain: 5s\n...\n": "",
		"drain: 5s\n---\nsocket: /s\n":     "second YAML document",
		"---\n---\ndrain: 5s\n":            "second YAML document",
		"drain: 5s # k\xe4se\n":            "not encoded in UTF-8",
		"\xff\xfed\x00r\x00":               "UTF-16",
	} {
		layer, ps := parseFile([]byte(content), "/d")
		switch {
		case want == "" && (ps != nil || layer["drain"] == nil):
			t.Errorf("%q: got %v, %v", content, layer, ps)
		case want != "" && (len(ps) != 1 || !strings.Contains(ps[0].Message, want)):
			t.Errorf("%q: got %v, %v; want %s", content, layer, ps, want)
		}
	}
}
