package pubnub

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// quietAddress returns an address whose port the system gives to nobody by itself, so that it is still free when it is
// needed for the second time.
func quietAddress(t *testing.T) string {
	t.Helper()
	for range 50 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// TestRestart: the sandbox is stopped while every SDK polls, and comes back at the same address with what it had been
// keeping. JavaScript and Python go on by themselves, from where they were; the Go SDK stops polling for ever, and its program
// has to subscribe again from the last timetoken that it knows. Nobody misses what was sent before they were back.
func TestRestart(t *testing.T) {
	dir, cards := t.TempDir(), t.TempDir()
	p, env := bin.Sandbox(t, cards, "--state-dir", dir, "--listen", quietAddress(t))
	k := keysOf(env)
	const channel = "restart"
	clients := map[string]*client{}
	last := map[string]string{}
	for _, sdk := range sdks {
		clients[sdk] = start(t, sdk, k.open(sdk))
		clients[sdk].subscribe(command{Channels: []string{channel}})
	}
	publish(t, k, channel, "before")
	hear := func(sdk, text string) {
		t.Helper()
		// A poll that is begun again may bring the last one again.
		e := clients[sdk].until("message", func(e event) bool { return e.Timetoken != last[sdk] })
		if e.Message != text {
			t.Errorf("%s heard %v, want %q", sdk, e.Message, text)
		}
		last[sdk] = e.Timetoken
	}
	for _, sdk := range sdks {
		hear(sdk, "before")
	}
	p.Stop(t)
	clients["go"].until("status", func(e event) bool { return e.Category != "Connected" })
	p, env = bin.Sandbox(t, cards, "--state-dir", dir, "--listen", k.origin)
	if again := keysOf(env); again != k {
		t.Fatalf("it came back as %+v, was %+v", again, k)
	}
	publish(t, k, channel, "after")
	// A new client: one that took the broken connection for a lost right has left its channels, and may stay deaf.
	clients["go"] = start(t, "go", k.open("go again"))
	clients["go"].do(command{Op: "subscribe", Channels: []string{channel}, Timetoken: last["go"]}, nil)
	for _, sdk := range sdks {
		hear(sdk, "after")
	}
	// And the other way: everyone can publish again.
	for _, sdk := range sdks {
		clients[sdk].timetoken(command{Op: "publish", Channel: channel, Message: "from " + sdk})
		for _, reader := range sdks {
			hear(reader, "from "+sdk)
		}
	}
	p.Stop(t)
}
