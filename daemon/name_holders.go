package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/atomicfile"
	"github.com/blocksd/blocksd/supervisor"
)

// namesFile in the state directory says which handler has had each agent's name.
const namesFile = "agents"

// nameHolders remembers which handler has had each agent's name, across restarts. Only the reconciler uses it.
type nameHolders struct {
	file    string // "" for names that end with the daemon
	log     *slog.Logger
	holders map[string]string // by agent
	// written is what the file holds. It differs from holders while it cannot be written.
	written map[string]string
}

// openNames reads what the last daemon knew. Where directories that others may write to are only warned of, a name is worth no
// more, and a developer who names a program anew need not say so.
func openNames(cfg Config) (*nameHolders, error) {
	n := &nameHolders{log: cfg.Log, holders: map[string]string{}}
	if cfg.WarnUntrusted {
		return n, nil
	}
	n.file = filepath.Join(cfg.Settings.StateDir, namesFile)
	b, err := os.ReadFile(n.file)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &n.holders)
	}
	if err != nil {
		// Without it a handler could take the name of another.
		return nil, fmt.Errorf("read in %s which handlers have the agents' names: %w: restore the file, or remove it, and whatever describes itself as an agent first has the name", n.file, bare(err))
	}
	n.written = maps.Clone(n.holders)
	return n, nil
}

// keep makes holders what is remembered. A file that cannot be written is tried again with the next decision.
func (n *nameHolders) keep(holders map[string]string) {
	n.holders = holders
	if n.file == "" || maps.Equal(n.written, holders) {
		return
	}
	b, err := json.MarshalIndent(holders, "", "  ")
	if err == nil {
		err = atomicfile.Write(n.file, append(b, '\n'), 0o600)
	}
	if err != nil {
		n.log.Error("which handlers have the agents' names could not be written, so a restart may forget it", "file", n.file, "err", err)
		return
	}
	n.written = maps.Clone(holders)
}

// assignment is an operator's word: a handler may be an agent that another one had.
type assignment struct {
	handler, agent string
	done           chan<- error // of capacity 1
}

// AssignAgent implements control.Daemon.
func (d *Daemon) AssignAgent(ctx context.Context, handler, agent string) error {
	if err := d.inbox.await(ctx); err != nil { // files count as they are now
		return fmt.Errorf("assign agent %s to handler %s: %w", agent, handler, err)
	}
	done := make(chan error, 1)
	select {
	case d.inbox.assigned <- assignment{handler, agent, done}:
		return <-done // the reconciler waits for nothing
	case <-d.inbox.over:
		return errStopping
	case <-ctx.Done():
		return ctx.Err()
	}
}

// assign gives a name to a handler and decides anew.
func (r *reconciler) assign(ctx context.Context, a assignment) error {
	describes := slices.Contains(r.plan.Describe, a.handler)
	switch {
	case !slices.ContainsFunc(r.plan.Handlers, func(h supervisor.HandlerConfig) bool { return h.Name == a.handler }):
		return control.ErrNoHandler
	case !describes:
		return fmt.Errorf("a card in a file says which agent handler %s is: name agent %s there", a.handler, a.agent)
	case !r.d.inbox.describes(a.handler, a.agent):
		return fmt.Errorf("handler %s does not say that it is agent %q: see blocksd handler check", a.handler, a.agent)
	}
	r.names.holders = maps.Clone(r.names.holders)
	r.names.holders[a.agent] = a.handler
	reasons := r.pass(ctx)
	if has := r.names.holders[a.agent]; has != a.handler {
		i := slices.IndexFunc(reasons, func(reason roster.Reason) bool {
			return reason.Code == roster.AgentTaken && reason.Detail == a.agent && reason.Object == "handler "+a.handler
		})
		if i >= 0 {
			return errors.New(reasons[i].Text())
		}
		return fmt.Errorf("handler %s stays agent %s, because a card or the name of its file says so", has, a.agent)
	}
	r.d.events.Emit(event.Event{
		Type: event.Notice, Handler: a.handler, Agent: a.agent, State: "assigned",
		Reason: fmt.Sprintf("an operator let handler %s be agent %s", a.handler, a.agent),
	})
	return nil
}
