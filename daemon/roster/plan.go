package roster

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Survey is what is on the disk, read by the caller.
type Survey struct {
	// Found are the handlers in plugins directories and those of projects. No two have one name.
	Found   []catalog.Found
	Skipped []catalog.Skip
	Pins    catalog.Pins
	// Cards are those that CardPaths names, by path.
	Cards map[string]CardFile
	// Hashes are the checksums of the programs that the configuration names, by path; what cannot be read is not in it.
	Hashes map[string]string
	// Stored says what the store made of each of Plan.Copies, by handler; nil when there is no store.
	Stored map[string]Stored
	// Held are the contents that handlers were rolled back to, as long as their files are what they were then.
	Held map[string]string
	// Reasons are about the survey itself.
	Reasons []Reason
}

// CardFile is a card as it was read.
type CardFile struct {
	Card card.Card
	Err  error
}

// Stored is a program in the store: what to execute, and its checksum.
type Stored struct {
	Program, Content string
	Err              error
}

// Plan is what the files and the configuration say: which handlers run, and which agents they are. Whatever cannot be
// served is a reason and nothing more.
type Plan struct {
	Handlers []supervisor.HandlerConfig
	Agents   []Assignment
	// Describe are the handlers without a card of their own: the cards that they return count.
	Describe []string
	// Copies are the programs that should be in the store. Only handlers that run from there are in it.
	Copies  []Copy
	Reasons []Reason

	// origin is the plugins directory that each handler was found in, by name; those of the configuration are not in it.
	origin map[string]string
	// cardBeside is the card file next to each handler's program, by name.
	cardBeside map[string]string
	// cards are the cards that were read, by path, and contents the checksums of the files of handlers, by name.
	cards    map[string]card.Card
	contents map[string]string
	// configuredPin are the handlers whose checksum stands in the configuration.
	configuredPin map[string]bool
	// fromStore are those whose file can be used and is of a kind that runs from the store.
	fromStore map[string]bool
}

// Content returns the checksum of a handler's file, which need not be what runs.
func (p Plan) Content(handler string) string { return p.contents[handler] }

// Pin returns the checksum that a handler must have, "" for any, and whether the configuration says so.
func (p Plan) Pin(handler string) (sum string, configured bool) {
	i := slices.IndexFunc(p.Handlers, func(h supervisor.HandlerConfig) bool { return h.Name == handler })
	if i < 0 {
		return "", false
	}
	return p.Handlers[i].SHA256, p.configuredPin[handler]
}

// FromStore says whether a handler's file can be used now, and is of a kind that runs from the store.
func (p Plan) FromStore(handler string) bool { return p.fromStore[handler] }

// WhyNotUsed is what is known of a handler's file that cannot be used now.
func (p Plan) WhyNotUsed(handler string) string {
	for _, r := range p.Reasons {
		if r.Code == FileSkipped && (filepath.Base(r.Object) == handler || r.Object == p.origin[handler]) || r.Code == NotCopied && r.Object == handler {
			return r.Text()
		}
	}
	return "its file runs in place, and the daemon keeps no copy: put the wanted one there"
}

// Copy is a program that should be in the store. Pin is the checksum that the handler must have, "" for any.
type Copy struct{ Handler, File, SHA256, Pin string }

// Assignment gives an agent to a handler.
type Assignment struct {
	Card    card.Card
	Handler string
	KeyFile string
}

func (a Assignment) equal(b Assignment) bool {
	return a.Handler == b.Handler && a.KeyFile == b.KeyFile && a.Card.AgentName == b.Card.AgentName &&
		a.Card.Concurrency == b.Card.Concurrency && string(a.Card.Raw) == string(b.Card.Raw)
}

// CardPaths are the cards that a plan may need.
func CardPaths(c config.Config, found []catalog.Found, before Plan) []string {
	paths := map[string]bool{}
	for _, a := range c.Agents {
		paths[a.Card] = true
	}
	for _, f := range found {
		if f.CardPath != "" {
			paths[f.CardPath] = true
		}
	}
	for path := range before.cards { // of programs that cannot be used now
		paths[path] = true
	}
	return slices.Sorted(maps.Keys(paths))
}

// MakePlan decides. A card in the configuration comes first, then the card beside the handler, then what the handler
// says of itself. Two handlers with one agent name: the first in this order wins, and of two with a card beside them the one
// that is named like the agent, else the first. What is unusable now but was not in before, the plan in effect, goes on as
// it was.
func MakePlan(c config.Config, s Survey, before Plan) Plan {
	p := planner{
		config: c, survey: s, before: before, kept: map[string]bool{},
		Plan: Plan{
			origin: map[string]string{}, cardBeside: map[string]string{}, cards: map[string]card.Card{}, contents: map[string]string{},
			configuredPin: map[string]bool{}, fromStore: map[string]bool{},
		},
	}
	p.findHandlers()
	p.furnish()
	for _, skip := range s.Skipped {
		r := Reason{Code: FileSkipped, Object: skip.Path, Detail: skip.Reason}
		if skip.Used {
			r.Code = FileUntrusted
		}
		if skip.Name != "" && p.kept[skip.Name] || p.keptProject(skip) {
			r.State = goesOn
		}
		p.reason(r)
	}
	p.assign()
	p.Reasons = append(p.Reasons, s.Reasons...)
	return p.Plan
}

type planner struct {
	Plan
	config config.Config
	survey Survey
	before Plan
	kept   map[string]bool // handlers whose file cannot be used, and that go on as they were
}

func (p *planner) reason(r Reason) { p.Reasons = append(p.Reasons, r) }

// findHandlers merges the handlers of the configuration with those that were found.
func (p *planner) findHandlers() {
	byName := map[string]catalog.Found{}
	for _, f := range p.survey.Found {
		byName[f.Name] = f
	}
	configured := map[string]bool{}
	for _, h := range p.config.Handlers {
		configured[h.Name] = true
		f, ok := byName[h.Name]
		switch {
		case h.Path == "" && ok:
			p.add(h, f)
		case h.Path != "" && p.skipped(h.Name, h.Path):
			p.keep(h.Name) // why it is not loaded anew is among what was skipped
		case h.Path != "":
			if ok && f.Path == h.Path {
				p.cardBeside[h.Name] = f.CardPath
			}
			if ok && f.Project != nil {
				p.reason(Reason{Code: FileSkipped, Object: f.Root, Detail: fmt.Sprintf("project %s is not loaded because the configuration has another handler %s, with a path: rename that one", f.Root, f.Name)})
			}
			// In place: what lies beside it may matter.
			p.add(h, catalog.Found{Name: h.Name, Path: h.Path, SHA256: p.survey.Hashes[h.Path]})
		case !p.keep(h.Name):
			p.reason(Reason{Code: HandlerMissing, Object: h.Name})
		}
	}
	for _, f := range p.survey.Found {
		if !configured[f.Name] && (f.Project != nil || p.config.Plugins.Autoload) {
			p.add(config.Handler{Name: f.Name, ProcessLimits: p.config.Isolation.ProcessLimits}, f)
		}
	}
	// What was found before and cannot be used now, but is not gone either, goes on.
	for _, name := range slices.Sorted(maps.Keys(p.before.origin)) {
		isProject := slices.Contains(p.config.Projects, p.before.origin[name])
		if _, ok := byName[name]; !ok && !configured[name] && (isProject || p.config.Plugins.Autoload) {
			p.keep(name)
		}
	}
}

// skipped reports whether the file of a handler may not be used.
func (p *planner) skipped(name, path string) bool {
	return slices.ContainsFunc(p.survey.Skipped, func(s catalog.Skip) bool { return !s.Used && s.Name == name && s.Path == path })
}

// add plans a handler, if it may run.
func (p *planner) add(h config.Handler, f catalog.Found) {
	hc := supervisor.HandlerConfig{
		Name: h.Name, Path: f.Path, Args: h.Args, Dir: h.Dir, Instances: max(h.Instances, 1), Content: f.SHA256, SHA256: strings.ToLower(h.SHA256),
		Restart:     unit.Policy{MaxRestarts: h.MaxRestarts, Window: h.RestartWindow, MaxDelay: h.RestartDelay, IdleTimeout: h.IdleTimeout, RecycleAge: h.RecycleAge},
		Concurrency: h.Concurrency, ProcessConcurrency: h.ProcessConcurrency, RecycleTasks: h.RecycleTasks, Idempotent: h.Idempotent,
	}
	if f.Project != nil {
		p.asProject(f, &hc)
	}
	isolate(h, &hc)
	p.configuredPin[h.Name] = hc.SHA256 != ""
	if hc.SHA256 == "" {
		sum, certain := p.survey.Pins.Of(h.Name)
		if !certain {
			p.notLoaded(Reason{Code: PinUnread, Object: h.Name})
			return
		}
		hc.SHA256 = sum
	}
	if hc.SHA256 == "" && p.config.Plugins.RequireChecksums {
		p.notLoaded(Reason{Code: ChecksumUnknown, Object: h.Name})
		return
	}
	// A file with the wrong checksum is not even copied; that it is wrong is found again when it is to be started. The
	// store is private, so a handler of another user runs in place.
	// It does not matter when the handler was rolled back to the program with the right one.
	allowed := hc.SHA256 == "" || hc.SHA256 == f.SHA256 || hc.SHA256 == p.survey.Held[h.Name]
	p.fromStore[h.Name] = f.Kind.Copied() && h.User == ""
	if p.fromStore[h.Name] && allowed {
		p.Copies = append(p.Copies, Copy{h.Name, f.Path, f.SHA256, hc.SHA256})
		if stored, ok := p.survey.Stored[h.Name]; ok {
			if stored.Err != nil {
				p.fromStore[h.Name] = false
				p.notLoaded(Reason{Code: NotCopied, Object: h.Name, Detail: stored.Err.Error() + "; the daemon tries it again every few seconds"})
				return
			}
			hc.Program, hc.Content = stored.Program, stored.Content
		}
	}
	p.Handlers = append(p.Handlers, hc)
	p.contents[h.Name] = f.SHA256
	if f.Root != "" {
		p.origin[h.Name] = f.Root
	}
	if f.CardPath != "" {
		p.cardBeside[h.Name] = f.CardPath
	}
}

// furnish gives the handlers what all have in common. Those that go on as they were keep what they had.
func (p *planner) furnish() {
	c := p.config
	for i := range p.Handlers {
		h := &p.Handlers[i]
		if p.kept[h.Name] {
			continue
		}
		if len(c.Environment) > 0 {
			h.Environment = c.Environment
		}
		h.MaxArtifactBytes = int64(c.Limits.ArtifactBytes)
		h.Timeouts = supervisor.Timeouts{
			Handshake: c.Timeouts.HandlerHandshake, Describe: c.Timeouts.HandlerDescribe, Health: c.Timeouts.HandlerHealth,
			HealthInterval: c.Timeouts.HandlerHealthInterval, Stop: c.Timeouts.HandlerStop,
		}
	}
}

// keptProject reports whether a project that cannot be read goes on as it was.
func (p *planner) keptProject(s catalog.Skip) bool {
	if s.Name != "" || !slices.Contains(p.config.Projects, s.Path) {
		return false
	}
	for name := range p.kept {
		if p.origin[name] == s.Path {
			return true
		}
	}
	return false
}

// asProject has the handler of a project run in its directory, by what runs its language. What it has to be given to do so
// comes before the arguments that the configuration adds.
func (p *planner) asProject(f catalog.Found, hc *supervisor.HandlerConfig) {
	hc.Interpreter, hc.Variables, hc.Needed = f.Project.Interpreter, f.Project.Environment, f.Project.Needed
	hc.Args = append(slices.Clone(f.Project.Args), hc.Args...)
	if hc.Dir == "" {
		hc.Dir = f.Dir
	}
	hc.Content = f.Project.Content
}

// notLoaded plans a handler as it was, where that can be, and says why it is not loaded anew.
func (p *planner) notLoaded(r Reason) {
	if p.keep(r.Object) {
		r.State = goesOn
	}
	p.reason(r)
}

// keep plans a handler as it was, if its file is still there in some form, and says whether it did.
func (p *planner) keep(name string) bool {
	i := slices.IndexFunc(p.before.Handlers, func(h supervisor.HandlerConfig) bool { return h.Name == name })
	if i < 0 {
		return false
	}
	dir := p.before.origin[name]
	there := slices.ContainsFunc(p.survey.Found, func(f catalog.Found) bool { return f.Name == name }) ||
		slices.ContainsFunc(p.survey.Skipped, func(s catalog.Skip) bool { return !s.Used && (s.Name == name || s.Name == "" && s.Path == dir) })
	if !there {
		return false
	}
	p.kept[name] = true
	p.Handlers = append(p.Handlers, p.before.Handlers[i])
	p.contents[name] = p.before.contents[name]
	p.origin[name] = dir
	beside := p.before.cardBeside[name]
	if _, ok := p.before.cards[beside]; ok {
		p.cardBeside[name] = beside
	}
	return true
}
