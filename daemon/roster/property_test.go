package roster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAnyOrder: whatever is found, described and ended in whatever order, decisions keep the promises that the daemon
// builds on.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		names := []string{"a", "b", "c"}
		agents := []string{"x", "a", "bad"}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			var verb string
			var args []string
			switch serving := slices.Sorted(maps.Keys(w.Serving)); rapid.IntRange(0, 6).Draw(t, "kind") {
			case 0, 1:
				verb = "found"
				for _, n := range names {
					switch rapid.IntRange(0, 3).Draw(t, "file of "+n) {
					case 0:
						args = append(args, n+"=1")
					case 1:
						args = append(args, n+"=2", n+".card="+rapid.SampledFrom(agents).Draw(t, "card of "+n))
					case 2:
						args = append(args, n+"*=1")
					}
				}
			case 2:
				if len(w.Running) > 0 {
					verb = "describe"
					args = append(rapid.SliceOfNDistinct(rapid.SampledFrom(agents[:2]), 0, 2, rapid.ID).Draw(t, "cards"), "")
					copy(args[1:], args)
					args[0] = rapid.SampledFrom(slices.Sorted(maps.Keys(w.Running))).Draw(t, "handler")
				}
			case 3:
				verb, args = "quarantined", []string{rapid.SampledFrom(names).Draw(t, "handler")}
			case 4:
				if len(serving) > 0 {
					verb, args = "ended", []string{rapid.SampledFrom(serving).Draw(t, "agent")}
				}
			case 5:
				verb, args = "late", []string{rapid.SampledFrom(names).Draw(t, "handler")}
			case 6:
				verb = "restart"
			}
			if verb == "" {
				continue
			}
			if err := w.input(verb, args); err != nil {
				t.Fatal(err)
			}
			before, holders := maps.Clone(w.Serving), maps.Clone(w.Holders)
			d := w.decide()
			check(t, before, w, d)
			checkNames(t, holders, w, d)
		}
	})
}

func check(t *rapid.T, before map[string]Slot, w *world, d Decision) {
	for _, a := range d.Start {
		if _, taken := before[a.Card.AgentName]; taken && !slices.Contains(d.Forget, a.Card.AgentName) {
			t.Fatalf("agent %s is started beside the one that is there", a.Card.AgentName)
		}
	}
	for _, name := range d.Forget {
		if !before[name].Ended {
			t.Fatalf("agent %s is forgotten before it has ended", name)
		}
	}
	for name, s := range w.Serving {
		if _, ok := w.Running[s.Assignment.Handler]; !ok && !s.Ended {
			t.Fatalf("handler %s of agent %s, which has not left, is ended", s.Assignment.Handler, name)
		}
	}
	seen := map[string]bool{}
	for _, h := range d.Handlers {
		if seen[h.Name] {
			t.Fatalf("handler %s runs twice", h.Name)
		}
		seen[h.Name] = true
	}
	for _, r := range d.Reasons {
		if text := r.Text(); text == "" || r.Code == "" || strings.Contains(text, "%!") {
			t.Fatalf("reason %+v reads %q", r, text)
		}
	}
	again := w.decide()
	if n := len(again.Forget) + len(again.Leave) + len(again.Start) + len(again.Retired); n > 0 {
		t.Fatalf("decided anew without news: %s", fmt.Sprint(show(again)))
	}
}

// checkNames: no agent goes to another handler than the one that had it by what handlers say of themselves.
func checkNames(t *rapid.T, before map[string]string, w *world, d Decision) {
	for _, a := range d.Start {
		name := a.Card.AgentName
		byFile := slices.ContainsFunc(w.Plan.Agents, func(p Assignment) bool { return p.Card.AgentName == name })
		if had := before[name]; had != "" && had != a.Handler && a.Handler != name && !byFile {
			t.Fatalf("agent %s, which handler %s had, is given to handler %s", name, had, a.Handler)
		}
		if w.Holders[name] != a.Handler {
			t.Fatalf("agent %s is started on handler %s, and handler %q has its name", name, a.Handler, w.Holders[name])
		}
	}
}

// A handler that says something else each time holds a bounded number of names, and the ones that it is now.
func TestNamesAreCounted(t *testing.T) {
	w := newWorld()
	if err := w.input("found", []string{"a=1", "b=1"}); err != nil {
		t.Fatal(err)
	}
	if err := w.input("describe", []string{"b", "victim"}); err != nil {
		t.Fatal(err)
	}
	w.decide()
	for i := range 3 * maxHeld {
		if err := w.input("describe", []string{"a", fmt.Sprint("x", i)}); err != nil {
			t.Fatal(err)
		}
		w.decide()
	}
	if n := len(w.Holders); n > maxHeld+2 || w.Holders["victim"] != "b" || w.Holders[fmt.Sprint("x", 3*maxHeld-1)] != "a" {
		t.Errorf("%d names are held: %v", n, w.Holders)
	}
}
