package blocks

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReferenceHandlers: a user of the SDK calls the handlers that come with blocksd, served by blocksd.
func TestReferenceHandlers(t *testing.T) {
	t.Parallel()
	n := bin.Dev(t, bin.Plugins())
	for _, version := range versions {
		c := consume(t, version, n.Env)
		for _, r := range []struct {
			agent, text string
			want        []string
		}{
			{"echo", "hello ü", []string{"request", "running 0", "artifact inline text/plain 24", "terminal completed", "state completed", "got text/plain -: Echoed request: hello ü"}},
			{"adder", `{"a": 2, "b": 3.5}`, []string{"request", "running 0", "artifact inline application/json 52", "terminal completed", "state completed",
				"got application/json -: {\n  \"ok\": true,\n  \"a\": 2,\n  \"b\": 3.5,\n  \"sum\": 5.5\n}"}},
		} {
			t.Run(version+" "+r.agent, func(t *testing.T) {
				var said []string
				if err := c.do("task", args{"agent": r.agent, "parts": []args{{"id": "request", "text": r.text}}}, &said); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(r.want, said); diff != "" {
					t.Errorf("the user of the SDK sees (+) another thing than is wanted (-):\n%s", diff)
				}
			})
		}
	}
	n.Stop(t)
}
