package daemon

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// shown is a plan in short.
type shown struct {
	Handlers map[string]string // name → path
	Agents   map[string]string // agent → handler
	Describe []string
	Reasons  []string
}

func TestPlan(t *testing.T) {
	cards := map[string]card.Card{
		"/p/echo.agent-card.json": {AgentName: "echo", Handler: "./main.go", Concurrency: 4},
		"/p/copy.agent-card.json": {AgentName: "echo", Handler: "./main.go", Concurrency: 4},
		"/c/one.json":             {AgentName: "one", Handler: "./tools/echo", Concurrency: 4},
		"/c/two.json":             {AgentName: "two", Handler: "bin/elsewhere", Concurrency: 4},
		"/c/none.json":            {AgentName: "none", Handler: "index.js", Concurrency: 4},
	}
	load := func(path string) (card.Card, error) {
		if c, ok := cards[path]; ok {
			return c, nil
		}
		return card.Card{}, errors.New("agent card " + path + " is not valid: no")
	}
	echo := catalog.Found{Name: "echo", Path: "/p/echo", CardPath: "/p/echo.agent-card.json"}
	bare := catalog.Found{Name: "bare", Path: "/p/bare"}
	auto := config.Plugins{Autoload: true}
	for _, c := range []struct {
		name   string
		config config.Config
		found  []catalog.Found
		want   shown
	}{
		{
			"a card beside the handler", config.Config{Plugins: auto}, []catalog.Found{echo},
			shown{Handlers: map[string]string{"echo": "/p/echo"}, Agents: map[string]string{"echo": "echo"}},
		},
		{
			"no card: the handler says it", config.Config{Plugins: auto}, []catalog.Found{bare},
			shown{Handlers: map[string]string{"bare": "/p/bare"}, Describe: []string{"bare"}},
		},
		{
			"a card in the configuration comes first, by file name",
			config.Config{Plugins: auto, Agents: []config.Agent{{Card: "/c/one.json"}}}, []catalog.Found{echo},
			shown{Handlers: map[string]string{"echo": "/p/echo"}, Agents: map[string]string{"one": "echo"}},
		},
		{
			"a card in the configuration, by path",
			config.Config{Agents: []config.Agent{{Card: "/c/two.json"}}, Handlers: []config.Handler{{Name: "x", Path: "/c/bin/elsewhere"}}}, nil,
			shown{Handlers: map[string]string{"x": "/c/bin/elsewhere"}, Agents: map[string]string{"two": "x"}},
		},
		{
			"two agents of one handler, by name",
			config.Config{Plugins: auto, Agents: []config.Agent{{Card: "/c/one.json", Handler: "bare"}, {Card: "/c/two.json", Handler: "bare"}}}, []catalog.Found{bare},
			shown{Handlers: map[string]string{"bare": "/p/bare"}, Agents: map[string]string{"one": "bare", "two": "bare"}},
		},
		{
			"no handler for a card", config.Config{Plugins: auto, Agents: []config.Agent{{Card: "/c/none.json"}, {Card: "/c/one.json", Handler: "gone"}}}, []catalog.Found{bare},
			shown{
				Handlers: map[string]string{"bare": "/p/bare"}, Describe: []string{"bare"},
				Reasons: []string{
					`agent none is not served: its runtime.handler "index.js" names no handler: name one with the key handler of this agent`,
					`agent one is not served: there is no handler "gone"`,
				},
			},
		},
		{
			"one name, two handlers: the first wins", config.Config{Plugins: auto},
			[]catalog.Found{echo, {Name: "copy", Path: "/p/copy", CardPath: "/p/copy.agent-card.json"}},
			shown{
				Handlers: map[string]string{"echo": "/p/echo", "copy": "/p/copy"}, Agents: map[string]string{"echo": "echo"},
				Reasons: []string{"handler copy does not serve agent echo, because handler echo does already: give it a card with another agentName"},
			},
		},
		{
			"bad cards", config.Config{Plugins: auto, Agents: []config.Agent{{Card: "/c/bad.json", Handler: "bare"}}},
			[]catalog.Found{bare, {Name: "worse", Path: "/p/worse", CardPath: "/p/worse.agent-card.json"}},
			shown{
				Handlers: map[string]string{"bare": "/p/bare", "worse": "/p/worse"},
				// bare is meant to be served by the bad card, so nothing else takes its place.
				Reasons: []string{
					"agents[0] is not served: agent card /c/bad.json is not valid: no",
					"handler worse serves no agent: agent card /p/worse.agent-card.json is not valid: no",
				},
			},
		},
		{
			"without autoload only what is listed", config.Config{Handlers: []config.Handler{{Name: "echo"}, {Name: "gone"}}}, []catalog.Found{echo, bare},
			shown{
				Handlers: map[string]string{"echo": "/p/echo"}, Agents: map[string]string{"echo": "echo"},
				Reasons: []string{"handler gone is not started: it has no path, and no plugins directory holds a program of that name"},
			},
		},
		{
			"a listed handler elsewhere hides one that was found", config.Config{Plugins: auto, Handlers: []config.Handler{{Name: "echo", Path: "/q/echo"}}}, []catalog.Found{echo},
			shown{Handlers: map[string]string{"echo": "/q/echo"}, Describe: []string{"echo"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := makePlan(c.config, c.found, load)
			got := shown{Handlers: map[string]string{}, Agents: map[string]string{}, Describe: p.describe, Reasons: p.reasons}
			for _, h := range p.handlers {
				got.Handlers[h.Name] = h.Path
			}
			for _, a := range p.agents {
				got.Agents[a.card.AgentName] = a.handler
			}
			if d := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPlanTakesTheConcurrencyOfTheConfiguration(t *testing.T) {
	load := func(string) (card.Card, error) { return card.Card{AgentName: "a", Concurrency: 4}, nil }
	c := config.Config{Agents: []config.Agent{{Card: "/a.json", Handler: "h", Concurrency: 9, KeyFile: "/k"}}, Handlers: []config.Handler{{Name: "h", Path: "/h"}}}
	p := makePlan(c, nil, load)
	if len(p.agents) != 1 || p.agents[0].card.Concurrency != 9 || p.agents[0].keyFile != "/k" {
		t.Errorf("%+v", p.agents)
	}
}
