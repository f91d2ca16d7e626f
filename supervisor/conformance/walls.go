package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/supervisor/launch"
)

// Walls are what a daemon puts around a handler.
type Walls struct {
	// Machine can enforce them; it belongs to the benches that have it, one after the other.
	Machine *launch.Machine
	// Closed and Sockets are files of the daemon, which no handler may open.
	Closed, Sockets []string
	// Limits of each handler, and whether its connection is encrypted, by its name.
	Of func(handler string) (limits launch.Limits, mtls bool)
}

// checkBehind runs the suite behind walls. What does not work there is tried again without them, so that the report can
// say that they are the reason.
func checkBehind(ctx context.Context, p Program, o Options) (Report, error) {
	r, err := runSuite(ctx, p, o)
	if err == nil && len(r.Problems) == 0 || ctx.Err() != nil {
		return r, err
	}
	behind := o.Walls.Of
	o.Walls = &Walls{Of: func(handler string) (launch.Limits, bool) {
		_, mtls := behind(handler)
		return launch.Limits{}, mtls
	}}
	free, freeErr := runSuite(ctx, p, o)
	switch {
	case freeErr != nil:
		return r, err
	case err != nil:
		return r, fmt.Errorf("%w; without the walls that the daemon puts around it, it starts: %s", err, whatOpens)
	}
	var gone []string
	for _, result := range r.Results {
		same := func(other Result) bool { return other.Check == result.Check && other.State == Fail }
		if result.State == Fail && !slices.ContainsFunc(free.Results, same) {
			gone = append(gone, result.Check)
		}
	}
	if len(gone) > 0 && r.Isolation != "" && r.Isolation != string(launch.NoWalls) {
		r.Problems = append(r.Problems, fmt.Sprintf("without the walls that the daemon puts around it (%s) it passes %s: %s", r.Isolation, strings.Join(gone, ", "), whatOpens))
	}
	return r, err
}

// whatOpens is what can be done about walls.
const whatOpens = "what it needs is closed to it there, so put that where other users may read it, or give the handler a user or a lower level in the configuration"
