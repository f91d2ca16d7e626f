package roster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	files := map[string]CardFile{}
	for path, c := range cards {
		files[path] = CardFile{Card: c}
	}
	for _, path := range []string{"/c/bad.json", "/p/worse.agent-card.json"} {
		files[path] = CardFile{Err: errors.New("agent card " + path + " is not valid: no")}
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
			p := MakePlan(c.config, Survey{Found: c.found, Cards: files}, Plan{})
			got := shown{Handlers: map[string]string{}, Agents: map[string]string{}, Describe: p.Describe, Reasons: texts(p.Reasons)}
			for _, h := range p.Handlers {
				got.Handlers[h.Name] = h.Path
			}
			for _, a := range p.Agents {
				got.Agents[a.Card.AgentName] = a.Handler
			}
			if d := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
		})
	}
}

func texts(reasons []Reason) (out []string) {
	for _, r := range reasons {
		out = append(out, r.Text())
	}
	return out
}

// What has become unusable goes on as it was, and the reason says so; what is gone does not.
func TestPlanKeepsWhatWorked(t *testing.T) {
	sum := func(c string) string { return strings.Repeat(c, 64) }
	good := card.Card{AgentName: "echo", Handler: "x", Concurrency: 4}
	broken := errors.New("agent card /p/echo.agent-card.json is not valid: no")
	echo := catalog.Found{Name: "echo", Path: "/p1/echo", Root: "/p", Dir: "/p1", SHA256: sum("a"), Kind: catalog.Elf, CardPath: "/p/echo.agent-card.json"}
	newer := echo
	newer.SHA256 = sum("b")
	pins := func(sum string) catalog.Pins { return catalog.Pins{Sums: map[string]string{"echo": sum}} }
	pinsFile := filepath.Join(t.TempDir(), catalog.PinsFile)
	if err := os.WriteFile(pinsFile, []byte(sum("a")[1:]+"  echo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	unread, _ := catalog.ReadPins(pinsFile)
	in := func(found []catalog.Found, skipped []catalog.Skip) Survey {
		s := Survey{Found: found, Skipped: skipped, Cards: map[string]CardFile{"/p/echo.agent-card.json": {Card: good}}, Stored: map[string]Stored{}}
		for _, f := range found {
			s.Stored[f.Name] = Stored{Program: "/store/" + f.SHA256, Content: f.SHA256}
		}
		return s
	}
	c := config.Config{Plugins: config.Plugins{Autoload: true}}
	before := MakePlan(c, in([]catalog.Found{echo}, nil), Plan{})
	if h := before.Handlers[0]; h.Program != "/store/"+sum("a") || h.Content != sum("a") {
		t.Fatalf("%+v", h)
	}
	require := c
	require.Plugins.RequireChecksums = true
	for _, tt := range []struct {
		name    string
		config  config.Config
		in      Survey
		edit    func(*Survey)
		content string // of echo; "" when it is gone
		pin     string
		agents  int
		reasons []string
	}{
		{"nothing has changed", c, in([]catalog.Found{echo}, nil), nil, sum("a"), "", 1, nil},
		{"a new file", c, in([]catalog.Found{newer}, nil), nil, sum("b"), "", 1, nil},
		{"the file is gone", c, in(nil, nil), nil, "", "", 0, nil},
		{"the file cannot be used", c, in(nil, []catalog.Skip{{Path: "/p/echo", Name: "echo", Reason: "handler /p/echo is not loaded because it is empty"}}), nil, sum("a"), "", 1, []string{"handler /p/echo goes on with its earlier program because it is empty"}},
		{"a file of another name cannot be used", c, in([]catalog.Found{echo}, []catalog.Skip{{Path: "/p/x", Name: "x", Reason: "handler /p/x is not loaded because it is empty"}}), nil, sum("a"), "", 1, []string{"handler /p/x is not loaded because it is empty"}},
		{"its directory cannot be used", c, in(nil, []catalog.Skip{{Path: "/p", Reason: "no"}}), nil, sum("a"), "", 1, []string{"no"}},
		{"its directory is used with a warning", c, in(nil, []catalog.Skip{{Path: "/p", Used: true, Reason: "no"}}), nil, "", "", 0, []string{"no"}},
		{"another directory cannot be used", c, in(nil, []catalog.Skip{{Path: "/q", Reason: "no"}}), nil, "", "", 0, []string{"no"}},
		{
			"the card is broken", c, in([]catalog.Found{echo}, nil), func(s *Survey) { s.Cards["/p/echo.agent-card.json"] = CardFile{Err: broken} },
			sum("a"), "", 1, []string{"agent echo goes on with its earlier card: " + broken.Error()},
		},
		{
			"the store is full", c, in([]catalog.Found{newer}, nil),
			func(s *Survey) { s.Stored["echo"] = Stored{Err: errors.New("full")} },
			sum("a"), "", 1, []string{"full; the daemon tries it again every few seconds"},
		},
		{
			"it is not the one that is pinned", c, in([]catalog.Found{newer}, nil), func(s *Survey) { s.Pins = pins(sum("a")) },
			sum("b"), sum("a"), 1, nil, // the start finds out
		},
		{
			"it is rolled back to the one that is pinned", c, in([]catalog.Found{newer}, nil), func(s *Survey) {
				s.Pins, s.Held = pins(sum("a")), map[string]string{"echo": sum("a")}
				s.Stored["echo"] = Stored{Program: "/store/" + sum("a"), Content: sum("a")}
			},
			sum("a"), sum("a"), 1, nil,
		},
		{
			"it is rolled back to another than the one that is pinned", c, in([]catalog.Found{newer}, nil), func(s *Survey) {
				s.Pins, s.Held = pins(sum("b")), map[string]string{"echo": sum("a")}
			},
			sum("b"), sum("b"), 1, nil, // the store says so
		},
		{
			"its pin cannot be read", c, in([]catalog.Found{newer}, nil), func(s *Survey) { s.Pins = unread },
			sum("a"), "", 1, []string{"handler echo goes on with its earlier program because what cannot be read in the file of pins may be its pin: correct the file, or check the program, then blocksd handler pin echo"},
		},
		{
			"it is not pinned", require, in([]catalog.Found{newer}, nil), nil, sum("a"), "", 1,
			[]string{"handler echo goes on with its earlier program because the checksum of its file is not known and plugins.require_checksums is set: check the file, then blocksd handler pin echo"},
		},
		{
			"it is pinned", require, in([]catalog.Found{newer}, nil), func(s *Survey) { s.Pins = pins(sum("b")) },
			sum("b"), sum("b"), 1, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := tt.in
			if tt.edit != nil {
				tt.edit(&in)
			}
			p := MakePlan(tt.config, in, before)
			content, pin, program := "", "", ""
			for _, h := range p.Handlers {
				content, pin, program = h.Content, h.SHA256, h.Program
			}
			if content != tt.content || pin != tt.pin || len(p.Agents) != tt.agents {
				t.Errorf("content %q, pin %q, %d agents", content, pin, len(p.Agents))
			}
			if wrong := pin != "" && pin != content; content != "" && (program == "") != wrong {
				t.Errorf("program %q", program)
			}
			if d := cmp.Diff(tt.reasons, texts(p.Reasons), cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
		})
	}
}

// The network is told no more than what the handler takes at once.
func TestCapacity(t *testing.T) {
	for _, tt := range []struct{ concurrency, process, instances, want int }{
		{0, 0, 1, 100}, {7, 0, 1, 7}, {0, 3, 4, 12}, {20, 3, 4, 12}, {5, 3, 4, 5}, {1000, 0, 1, 100}, {0, 3, 0, 3},
	} {
		c := config.Config{
			Agents:   []config.Agent{{Card: "/a.json", Handler: "h"}},
			Handlers: []config.Handler{{Name: "h", Path: "/h", Concurrency: tt.concurrency, ProcessConcurrency: tt.process, Instances: tt.instances}},
		}
		p := MakePlan(c, Survey{Cards: map[string]CardFile{"/a.json": {Card: card.Card{AgentName: "a", Concurrency: 100}}}}, Plan{})
		if got := p.Agents[0].Card.Concurrency; got != tt.want {
			t.Errorf("%+v: concurrency %d", tt, got)
		}
	}
}

func TestPlanTakesTheConcurrencyOfTheConfiguration(t *testing.T) {
	c := config.Config{Agents: []config.Agent{{Card: "/a.json", Handler: "h", Concurrency: 9, KeyFile: "/k"}}, Handlers: []config.Handler{{Name: "h", Path: "/h"}}}
	p := MakePlan(c, Survey{Cards: map[string]CardFile{"/a.json": {Card: card.Card{AgentName: "a", Concurrency: 4}}}}, Plan{})
	if len(p.Agents) != 1 || p.Agents[0].Card.Concurrency != 9 || p.Agents[0].KeyFile != "/k" {
		t.Errorf("%+v", p.Agents)
	}
}
