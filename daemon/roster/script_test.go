package roster

// The scripts in testdata show how what is served follows from what is known: lines without indentation change what is
// known, indented lines are the decision that follows and is carried out. "go test ./daemon/roster -update" writes what
// the roster decides now.
//
//	found NAME[*]=CONTENT [NAME.card=AGENT[/CONCURRENCY]] …   the plugins directory; NAME* cannot be used
//	describe HANDLER AGENT…                                  the cards that a handler returns
//	quarantined HANDLER                                      it is not expected to describe itself any more
//	late HANDLER                                             nobody waits for it to describe itself any more
//	assign HANDLER AGENT                                     an operator gives it the name of an agent
//	restart                                                  the daemon ends and starts: it knows who had which name
//	ended AGENT                                              the agent has left, or was refused for good

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/internal/testutil/scripttest"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestScripts(t *testing.T) {
	scripttest.Run(t, "testdata/*.txt", func(t *testing.T, script string) string {
		got, err := runScript(script)
		if err != nil {
			t.Fatal(err)
		}
		return got
	})
}

// runScript returns the script with the indented lines replaced by what is decided.
func runScript(script string) (string, error) {
	var out strings.Builder
	w := newWorld()
	for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		out.WriteString(line + "\n")
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if err := w.input(fields[0], fields[1:]); err != nil {
			return "", fmt.Errorf("line %d: %w", n+1, err)
		}
		for _, text := range show(w.decide()) {
			out.WriteString("  " + text + "\n")
		}
	}
	return out.String(), nil
}

// world carries decisions out, as the daemon does.
type world struct{ State }

func newWorld() *world {
	return &world{State{Described: map[string][]card.Card{}, GivenUp: map[string]bool{}, Late: map[string]bool{}, Holders: map[string]string{}, Serving: map[string]Slot{}, Running: map[string]supervisor.HandlerConfig{}}}
}

func (w *world) input(verb string, args []string) error {
	switch verb {
	case "found":
		return w.found(args)
	case "describe":
		cards := []card.Card{}
		for _, name := range args[1:] {
			cards = append(cards, card.Card{AgentName: name, Concurrency: 9})
		}
		w.Described[args[0]] = cards
	case "quarantined":
		w.GivenUp[args[0]] = true
	case "late":
		w.Late[args[0]] = true
	case "assign":
		w.Holders[args[1]] = args[0]
	case "restart":
		holders := w.Holders
		plan := w.Plan
		*w = *newWorld()
		w.Holders, w.Plan = holders, plan
	case "ended":
		s := w.Serving[args[0]]
		s.Ended = true
		w.Serving[args[0]] = s
	default:
		return fmt.Errorf("%q is no input", verb)
	}
	return nil
}

// found makes a plan of a plugins directory.
func (w *world) found(args []string) error {
	s := Survey{Cards: map[string]CardFile{}, Stored: map[string]Stored{}}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=CONTENT", arg)
		}
		if handler, isCard := strings.CutSuffix(name, ".card"); isCard {
			path := "/p/" + handler + catalog.CardSuffix
			if i := slices.IndexFunc(s.Found, func(f catalog.Found) bool { return f.Name == handler }); i >= 0 {
				s.Found[i].CardPath = path
			}
			agent, concurrency, _ := strings.Cut(value, "/")
			n, _ := strconv.Atoi(concurrency)
			f := CardFile{Card: card.Card{AgentName: agent, Concurrency: max(n, 1)}}
			if agent == "bad" {
				f = CardFile{Err: errors.New("it is not valid")}
			}
			s.Cards[path] = f
			continue
		}
		if bad, isBad := strings.CutSuffix(name, "*"); isBad {
			s.Skipped = append(s.Skipped, catalog.Skip{Path: "/p/" + bad, Name: bad, Reason: "/p/" + bad + " is not used"})
			continue
		}
		s.Found = append(s.Found, catalog.Found{Name: name, Path: "/p/" + name, Root: "/p", Dir: "/p", SHA256: value, Kind: catalog.Elf})
		s.Stored[name] = Stored{Program: "/store/" + value, Content: value}
	}
	w.Plan = MakePlan(config.Config{Plugins: config.Plugins{Autoload: true}}, s, w.Plan)
	return nil
}

// decide takes a decision and carries it out.
func (w *world) decide() Decision {
	d := Decide(w.State)
	for _, name := range d.Forget {
		delete(w.Serving, name)
	}
	for _, l := range d.Leave {
		s := w.Serving[l.Agent]
		s.Leaving = true
		w.Serving[l.Agent] = s
	}
	for _, a := range d.Start {
		w.Serving[a.Card.AgentName] = Slot{Assignment: a}
	}
	w.Holders = d.Holders
	w.Running = map[string]supervisor.HandlerConfig{}
	for _, h := range d.Handlers {
		w.Running[h.Name] = h
	}
	for _, h := range d.Retired {
		delete(w.Described, h)
	}
	maps.DeleteFunc(w.GivenUp, func(h string, _ bool) bool { return !slices.Contains(w.Plan.Describe, h) })
	return d
}

func show(d Decision) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, name := range d.Forget {
		say("forget %s", name)
	}
	for _, l := range d.Leave {
		if l.Patient {
			say("leave %s, patiently", l.Agent)
		} else {
			say("leave %s", l.Agent)
		}
	}
	for _, a := range d.Start {
		say("start %s on %s, concurrency %d", a.Card.AgentName, a.Handler, a.Card.Concurrency)
	}
	var run []string
	for _, h := range d.Handlers {
		run = append(run, h.Name+"="+h.Content)
	}
	say("run %s", strings.Join(run, " "))
	for _, h := range d.Retired {
		say("retired %s", h)
	}
	for _, h := range d.Undescribed {
		say("expect the cards of %s", h)
	}
	for _, r := range d.Reasons {
		say("because %s %s: %s", r.Code, r.Object, r.Text())
	}
	return lines
}
