package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                       nil,
		"one":                    {"one"},
		"Hello from echo_stream": {"Hello ", "from ", "echo_stream"},
		"  two  spaces ":         {"  ", "two  ", "spaces "},
		"ü \n😀":                  {"ü ", "\n😀"},
	} {
		got := words(text)
		if diff := cmp.Diff(want, got); diff != "" || strings.Join(got, "") != text {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}
