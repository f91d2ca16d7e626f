package main

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSaid(t *testing.T) {
	for event, want := range map[string]string{
		`{"text":"ping"}`: "AGENT> PING", `{"text":" grün ist "}`: "AGENT> GRÜN IST", `{"text":""}`: "AGENT> ",
		`{"text":null}`: "", `{"text":3}`: "", `{}`: "", `[1]`: "", `7`: "", `null`: "",
	} {
		text, ok := said([]byte(event))
		if got := answer(text).Text; ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %v", event, got, ok)
		}
	}
	if got := answer(greeting).Text; got != "AGENT> OPENING GREETING" {
		t.Errorf("the greeting is %q", got)
	}
}
