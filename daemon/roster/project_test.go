package roster

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// A project runs by its interpreter, in its directory, also without autoload; its entry under handlers adds to that. When
// it cannot be used it goes on as it was, and when it is no project any more it does not.
func TestPlanOfProject(t *testing.T) {
	found := catalog.Found{
		Name: "one", Path: "/pr/h.py", Root: "/pr", Dir: "/pr", SHA256: "entry", Kind: catalog.Script, CardPath: "/pr/agent-card.json",
		Project: &catalog.Project{Interpreter: "/bin/python3", Args: []string{"run", "/pr"}, Content: "tree", Environment: []string{"A=1"}},
	}
	in := func(skipped ...catalog.Skip) Survey {
		s := Survey{Skipped: skipped, Cards: map[string]CardFile{"/pr/agent-card.json": {Card: card.Card{AgentName: "one", Concurrency: 3}}}}
		if skipped == nil {
			s.Found = []catalog.Found{found}
		}
		return s
	}
	c := config.Config{Projects: []string{"/pr"}, Handlers: []config.Handler{{Name: "one", Args: []string{"more"}, Instances: 2}}}
	p := MakePlan(c, in(), Plan{})
	if len(p.Handlers) != 1 || len(p.Agents) != 1 || len(p.Reasons) != 0 {
		t.Fatalf("planned %+v", p)
	}
	h := p.Handlers[0]
	if h.Interpreter != "/bin/python3" || h.Path != "/pr/h.py" || h.Program != "" || h.Dir != "/pr" || h.Content != "tree" || h.Instances != 2 {
		t.Errorf("planned %+v", h)
	}
	if d := cmp.Diff([]string{"run", "/pr", "more"}, h.Args); d != "" {
		t.Error(d)
	}
	if p.Content("one") != "entry" || p.FromStore("one") {
		t.Error("a project is pinned by its entry file and runs in place")
	}

	c.Handlers = nil
	p = MakePlan(c, in(), Plan{})
	broken := MakePlan(c, in(catalog.Skip{Path: "/pr", Reason: "project /pr is not loaded because no"}), p)
	if len(broken.Handlers) != 1 || len(broken.Agents) != 1 {
		t.Errorf("a project that cannot be used does not go on: %+v", broken)
	}
	if d := cmp.Diff([]string{"project /pr goes on with its earlier program because no"}, texts(broken.Reasons)); d != "" {
		t.Error(d)
	}
	c.Projects = nil
	if gone := MakePlan(c, Survey{}, broken); len(gone.Handlers) > 0 {
		t.Errorf("what is no project any more goes on: %+v", gone.Handlers)
	}

	c.Projects, c.Handlers = []string{"/pr"}, []config.Handler{{Name: "one", Path: "/elsewhere"}}
	hidden := MakePlan(c, in(), Plan{})
	if len(hidden.Handlers) != 1 || hidden.Handlers[0].Path != "/elsewhere" || len(hidden.Reasons) != 1 {
		t.Errorf("beside another handler of that name: %+v", hidden)
	}
}
