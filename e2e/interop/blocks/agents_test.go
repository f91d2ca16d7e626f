package blocks

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// agents are what the tests' networks know, beside "scripted": how each card differs from that one.
var agents = map[string]func(card map[string]any){
	"paid_one":    blocks("billingMode", "paid", "pricePerTask", "0.10"),
	"private_one": blocks("listing", "private"),
	"narrow":      runtime("concurrency", 1),
	"ledger":      runtime(),
	"caller":      runtime(),
	"lost":        runtime(),
	"wide":        runtime("concurrency", 256), // served alone
	"unserved":    runtime(),
	"full":        runtime("maxPendingBacklog", 0), // no instance serves it
	"reporter": func(c map[string]any) {
		c["capabilities"] = args{"taskKinds": []string{"request"}}
		c["streams"] = args{"_default": args{"direction": "outbound", "format": "events"}}
	},
	"symmetry": func(c map[string]any) {
		c["capabilities"] = args{"taskKinds": []string{"pipe"}}
		c["streams"] = args{
			"p_to_c_bytes":  args{"direction": "outbound", "format": "bytes"},
			"p_to_c_events": args{"direction": "outbound", "format": "events"},
			"c_to_p_bytes":  args{"direction": "inbound", "format": "bytes"},
			"c_to_p_events": args{"direction": "inbound", "format": "events"},
		}
	},
	"streamer": func(c map[string]any) {
		c["capabilities"] = args{"taskKinds": []string{"pipe"}}
		c["streams"] = args{
			"log":   args{"direction": "outbound", "format": "bytes"},
			"ticks": args{"direction": "outbound", "format": "events"},
			"feed":  args{"direction": "outbound", "format": "events", "affinity": "shared"},
			"upper": args{"direction": "inbound", "format": "bytes"},
			"chat": args{
				"direction": "bidirectional", "format": "events",
				"outboundSchema": args{"type": "object"}, "inboundSchema": args{"type": "object"},
			},
		}
	},
}

// args are the arguments of an operation, or any other JSON object.
type args = map[string]any

// blocks returns a change of what the registry is told beside the card.
func blocks(pairs ...string) func(map[string]any) {
	return func(c map[string]any) {
		listing := args{}
		for i := 0; i < len(pairs); i += 2 {
			listing[pairs[i]] = pairs[i+1]
		}
		c["extensions"] = args{"blocks": listing}
	}
}

func runtime(pairs ...any) func(map[string]any) {
	return func(c map[string]any) {
		for i := 0; i < len(pairs); i += 2 {
			c["runtime"].(map[string]any)[pairs[i].(string)] = pairs[i+1]
		}
	}
}

// writeCards writes the cards of all agents into a directory, as NAME.json, with handler.py as their handler.
func writeCards(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	edits := maps.Clone(agents)
	edits["scripted"] = runtime()
	for name, edit := range edits {
		doc, err := os.ReadFile("../../../handlers/internal/scripted/agent-card.json")
		if err != nil {
			t.Fatal(err)
		}
		var card map[string]any
		if err := json.Unmarshal(doc, &card); err != nil {
			t.Fatal(err)
		}
		card["identity"].(map[string]any)["agentName"] = name
		card["runtime"].(map[string]any)["handler"] = "./handler.py"
		edit(card)
		if doc, err = json.Marshal(card); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
