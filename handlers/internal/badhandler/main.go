// Command badhandler is a handler for tests, of the agent "badhandler": it misbehaves. The text of a request names a fault
// and its argument (faults.go). A copy or link whose file name ends in one of the names in startup.go misbehaves as soon as
// it starts.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	for suffix, misbehave := range startup {
		if strings.HasSuffix(os.Args[0], "-"+suffix) || os.Getenv("BADHANDLER_START") == suffix {
			misbehave()
		}
	}
	serveHandler()
}

func serveHandler() {
	pluginsdk.Serve(pluginsdk.Handler{
		Name: "badhandler", Version: "0.1.0", Cards: [][]byte{card}, Run: run,
		Idempotent:    strings.HasSuffix(os.Args[0], "-idempotent"),
		ServerOptions: []grpc.ServerOption{grpc.ChainStreamInterceptor(withoutResult)},
	})
}

func run(ctx context.Context, t *pluginsdk.Task) error {
	text, _ := t.Text("request")
	name, argument, _ := strings.Cut(text, " ")
	f, ok := faults[name]
	if !ok {
		return fmt.Errorf("unknown fault %q", name)
	}
	return f(ctx, t, argument)
}
