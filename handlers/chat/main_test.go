package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConversations(t *testing.T) {
	m := newMemory(2)
	mine, yours, other := key{"org", "me", "a"}, key{"org", "you", "a"}, key{"org", "me", "b"}
	for _, step := range []struct {
		in         key
		says, want string
	}{
		{mine, "hello", `You said "hello", and that is the first thing you tell me.`},
		{yours, "hi", `You said "hi", and that is the first thing you tell me.`},
		{mine, "again", `You said "again". Before that, you said "hello". That makes 2 messages.`},
		{other, "new", `You said "new", and that is the first thing you tell me.`}, // now one too many: the oldest is forgotten
		{mine, "still", `You said "still". Before that, you said "again". That makes 3 messages.`},
		{yours, "back", `You said "back", and that is the first thing you tell me.`},
	} {
		if got := answer(m.say(step.in, step.says)); got != step.want {
			t.Errorf("%+v says %q: %s", step.in, step.says, got)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(2)
	for range 3 * maxMessages {
		m.say(key{}, strings.Repeat("ü", maxMessage))
	}
	said := m.say(key{}, "x")
	if len(said) != maxMessages || len(said[0]) > maxMessage+len("…") || !strings.HasSuffix(said[0], "ü…") {
		t.Errorf("%d messages, the first with %d bytes", len(said), len(said[0]))
	}
}
