// Command hostile is a handler for tests, of the agent "hostile": it attacks the daemon and the handlers beside it. The text
// of a request is the name of an attack (attacks.go) and its argument.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	cards := [][]byte{card}
	// A copy whose file name ends in -cards-N-BYTES says that it is so many further agents.
	if name, count, ok := strings.Cut(os.Args[0], "-cards-"); ok && name != "" {
		n, size, _ := strings.Cut(count, "-")
		for i := range atoi(n) {
			c := strings.Replace(string(card), `"hostile"`, fmt.Sprintf(`"hostile-%d"`, i), 1)
			cards = append(cards, []byte(strings.Replace(c, "Attacks the daemon", strings.Repeat("x", atoi(size)), 1)))
		}
	}
	// One whose file name ends in -as-AGENT says that it is that agent.
	if _, agent, ok := strings.Cut(os.Args[0], "-as-"); ok {
		cards = [][]byte{[]byte(strings.Replace(string(card), `"hostile"`, fmt.Sprintf("%q", agent), 1))}
	}
	pluginsdk.Serve(pluginsdk.Handler{Name: "hostile", Version: "0.1.0", Cards: cards, Run: run})
}

func run(ctx context.Context, t *pluginsdk.Task) error {
	text, _ := t.Text("request")
	name, argument, _ := strings.Cut(text, " ")
	attack, ok := attacks[name]
	if !ok {
		return fmt.Errorf("unknown attack %q", name)
	}
	return attack(ctx, t, argument)
}

func atoi(s string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(s))
	return n
}
