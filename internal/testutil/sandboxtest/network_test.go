package sandboxtest_test

import (
	"net"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const cardText = `{"identity":{"agentName":"echo","displayName":"Echo","description":"For tests.","version":"1.0.0","provider":{"organization":"Tests"}},
"capabilities":{"taskKinds":["request"]},"tags":[{"id":"test","name":"Test"}],
"io":{"inputs":[{"id":"request","description":"Text.","contentType":"text/plain","required":true}],"outputs":[]},
"runtime":{"handler":"./handler","concurrency":1}}`

func TestNetwork(t *testing.T) {
	c, err := card.Parse([]byte(cardText))
	if err != nil {
		t.Fatal(err)
	}
	n := sandboxtest.Start(t, sandbox.Config{}, c)
	cdm, api := n.Backend(nil)
	if cdm.PubNubOrigin != n.Addr() {
		t.Errorf("the origin is %q, the address %q", cdm.PubNubOrigin, n.Addr())
	}
	if a, err := api.NewConsumer(n.APIKey()).Agent(t.Context(), "echo"); err != nil || a.Name != "echo" {
		t.Errorf("agent %+v, %v", a, err)
	}
	if !slices.Contains(n.Environ(), "BLOCKS_API_KEY="+n.APIKey()) {
		t.Errorf("the environment is %q", n.Environ())
	}
	if k := n.OpenKeys(); k.PublishKey == "" || k.SubscribeKey == "" || k == cdm.Playground {
		t.Errorf("the open keys are %+v", k)
	}
	n.Stop()
	if conn, err := net.Dial("tcp", n.Addr()); err == nil {
		conn.Close()
		t.Error("a sandbox that was stopped still listens")
	}
}
