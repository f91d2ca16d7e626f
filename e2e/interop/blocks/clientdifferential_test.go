package blocks

import (
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// otherwise is what a user of package client sees differently from a user of the SDK, with the same provider.
type otherwise struct {
	reason string
	want   []string
}

const (
	neverClosed = "everything known can be read at any time, so there is nothing to ask"
	noClass     = "a misuse has no type of its own: its sentence says what to change, and nothing is sent"
	whole       = "the code in the body of an HTTP error is kept"
)

// intendedByClient are all differences of the scenarios, by their names. docs/client-rows.md has the same table.
var intendedByClient = map[string]otherwise{
	"artifacts saved as files": {"a name without an extension gets that of its media type",
		[]string{"saved a.txt: a", "saved artifact-1.txt: done", "saved b.png: 30000 bytes " + sum(30000)}},
	"connect to a finished task": {neverClosed, []string{"request", "running 0", "status a", "artifact inline text/plain 4", "artifact file image/png 20000 p.png",
		"terminal completed", "state completed", "got text/plain -: done", "got image/png p.png: 20000 bytes " + sum(20000)}},
	"anonymous reader of a public task": {neverClosed,
		[]string{"request", "running 0", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done"}},
	"same key again after the end":    {neverClosed, []string{"same task, idempotent True, state completed"}},
	"same key again while it runs":    {neverClosed, []string{"same task, idempotent True", "ends canceled", "ends canceled"}},
	"error: no agent named":           {noClass, []string{"refused before any request"}},
	"error: anonymous sender":         {noClass, []string{"refused before any request"}},
	"error: no credentials":           {noClass, []string{"refused before any request"}},
	"error: two kinds of credentials": {noClass, []string{"refused before any request"}},
	"error: anonymous and paid":       {noClass, []string{"refused before any request"}},
	"error: pipe without a duration":  {"a duration makes it a pipe task, so it cannot be left out", []string{"cannot be said"}},
	"error: bad token":                {whole, []string{"RpcError 401 Unauthorized"}},
	"error: no new token":             {"the first error says both: that the token was refused, and that there is no new one", []string{"AuthRefreshFailedError and RpcError 401", "AuthRefreshFailedError"}},
	"error: wrong API key":            {"errors of the first token have types, too", []string{"RpcError 401 API_KEY_INVALID"}},
	"error: dead token endpoint":      {"errors of the first token have types, too", []string{"no answer"}},
}

// TestClientScenarios: package client sees at the SDK's own provider what the SDK's consumer sees there, but for what is
// intended.
func TestClientScenarios(t *testing.T) {
	t.Parallel()
	cards := writeCards(t)
	for _, provider := range versions {
		t.Run("provider "+provider, func(t *testing.T) {
			t.Parallel() // most of the time they wait for a minute to pass
			_, env := bin.Sandbox(t, cards)
			run(t, provider, env, filepath.Join(cards, "scripted.json"))
			provide(t, provider, env, served(cards)...)
			for _, f := range faults {
				admin(t, env, http.MethodPost, "faults", f)
			}
			c := newOurs(t, env)
			said := all(c, scenarios)
			t.Run("instance lost", func(t *testing.T) {
				loseInstance(t, provide(t, provider, env, filepath.Join(cards, "lost.json")).kill, c)
			})
			used := map[string]bool{}
			for i, s := range scenarios {
				t.Run(s.name, func(t *testing.T) {
					said, want := <-said[i], s.want
					if d, ok := intendedByClient[s.name]; ok {
						used[s.name] = true
						if want = d.want; slices.Equal(want, s.want) {
							t.Error("the intended difference is none")
						}
					}
					if said.err != nil {
						t.Fatal(said.err)
					}
					if d := cmp.Diff(expected(want, said.lines), said.lines); d != "" {
						t.Errorf("a user of package client sees something else (-want +got):\n%s", d)
					}
				})
			}
			for name := range intendedByClient {
				if !used[name] {
					t.Errorf("there is no scenario for the intended difference %q", name)
				}
			}
		})
	}
}

// TestClientTranscripts gives each trial to the SDK's provider twice, once by the SDK's TaskClient and once by package
// client: the same events come, whole, what was sent among them. Then each of the two is shown the other one's tasks.
func TestClientTranscripts(t *testing.T) {
	t.Parallel()
	cards := writeCards(t)
	for _, provider := range versions {
		t.Run("provider "+provider, func(t *testing.T) {
			t.Parallel()
			_, env := bin.Sandbox(t, cards)
			run(t, provider, env, filepath.Join(cards, "scripted.json"))
			them, us := consume(t, newest, env), newOurs(t, env)
			both := [2][]<-chan outcome{transcripts(them, trials, true), transcripts(us, trials, true)}
			for i, trial := range trials {
				t.Run(trial.name, func(t *testing.T) {
					theirs, mine := <-both[0][i], <-both[1][i]
					if theirs.err != nil || mine.err != nil {
						t.Fatalf("the SDK's consumer: %v; package client: %v", theirs.err, mine.err)
					}
					if d := intended[trial.name]; d.perhaps { // whether the provider publishes it is a matter of time
						theirs.lines, mine.lines = without(theirs.lines, d.ours), without(mine.lines, d.ours)
					}
					if len(trial.then) > 1 { // who asks twice may overtake the provider's answer, which it then may repeat
						theirs.lines, mine.lines = slices.Compact(slices.Sorted(slices.Values(theirs.lines))), slices.Compact(slices.Sorted(slices.Values(mine.lines)))
					}
					if diff := cmp.Diff(theirs.lines, mine.lines); diff != "" {
						t.Errorf("package client (+) differs from the SDK's consumer (-):\n%s", diff)
					}
					if slices.Contains(mine.lines, noEnd) {
						return
					}
					for _, id := range []string{theirs.task, mine.task} {
						var all [2][]map[string]any
						for i, c := range []user{them, us} {
							if err := c.do("events_of", args{"task": id}, &all[i]); err != nil {
								t.Fatal(err)
							}
						}
						// The SDK's provider may publish a status after the end, and its consumer shows it. For package client the
						// end is the last event.
						if i := slices.IndexFunc(all[0], func(e map[string]any) bool { return e["type"] == "terminal" }); i >= 0 {
							all[0] = all[0][:i+1]
						}
						if diff := cmp.Diff(all[0], all[1]); diff != "" {
							t.Errorf("of task %s package client (+) sees something else than the SDK's consumer (-):\n%s", id, diff)
						}
					}
				})
			}
		})
	}
}
