package blocks

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// TaskRow is what the network knows of a task.
type TaskRow struct {
	TaskID, AgentName, Owner, OrgID string
	State                           wire.TaskState
	Kind                            wire.TaskKind
	Created, Updated                time.Time
}

func (t *task) rowLocked() TaskRow {
	return TaskRow{t.ID, t.agent.Spec.Name, t.Owner, t.OrgID, t.State, t.Kind, t.Created, t.Updated}
}

// readableLocked says whether p (nil: anonymous) may read a task. What an agent may read are its own tasks and those
// that it submitted.
func (n *Network) readableLocked(t *task, p *Principal) bool {
	switch {
	case p == nil:
		return t.anonymousLocked()
	case p.IsAgent():
		return t.ByAgent == p.Agent && t.OrgID == p.OrgID || t.agent.Spec.Name == p.Agent && t.agent.Spec.OrgID == p.OrgID && !n.cfg.NoAgentGetTask
	}
	return t.OrgID == p.OrgID
}

// findLocked returns a task that p may read.
func (n *Network) findLocked(p *Principal, id string) (*task, error) {
	t := n.tasks.byID[id]
	if t == nil {
		return nil, noTask(id)
	}
	if !n.readableLocked(t, p) {
		return nil, refused(403, CodeDenied, "You may not access the task %s.", id)
	}
	return t, nil
}

// GetTask returns the row of a task. It may lag behind the task's channel.
func (n *Network) GetTask(p *Principal, id string) (TaskRow, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.findLocked(p, id)
	if err != nil {
		return TaskRow{}, err
	}
	return t.rowLocked(), nil
}

// ReadToken lets the holder read a task's channel.
type ReadToken struct {
	Token, Channel string
	TTL            time.Duration
}

// TaskReadToken gives a token to those who may read the task: on the provider's side, the organization that runs the
// agent.
func (n *Network) TaskReadToken(p *Principal, id string, provider bool) (ReadToken, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tasks.byID[id]
	if t == nil {
		return ReadToken{}, noTask(id)
	}
	allowed := n.readableLocked(t, p)
	if provider {
		allowed = p != nil && p.OrgID == t.agent.Spec.OrgID && (!p.IsAgent() || p.Agent == t.agent.Spec.Name)
	}
	if !allowed {
		return ReadToken{}, refused(403, CodeDenied, "You may not read the task %s.", id)
	}
	token, err := n.readToken(t)
	return ReadToken{token, t.Channel, n.cfg.ReadTTL}, err
}

// ListFilter selects tasks; empty fields select all.
type ListFilter struct {
	OwnerID, AgentName string
	State              wire.TaskState
	Limit              int
	Cursor             string
}

// maxList is how many tasks a page has at most, and without a limit.
const maxList = 100

// ListTasks returns the tasks that p may read, newest first, page by page, and how many match in all.
func (n *Network) ListTasks(p *Principal, f ListFilter) (page []TaskRow, next string, total int, err error) {
	before := -1
	if f.Cursor != "" {
		if before, err = strconv.Atoi(f.Cursor); err != nil || before < 0 {
			return nil, "", 0, InvalidParams("The cursor is invalid.")
		}
	}
	if f.Limit <= 0 || f.Limit > maxList {
		f.Limit = maxList
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*task
	for _, t := range n.tasks.byID {
		if !n.readableLocked(t, p) || f.OwnerID != "" && t.Owner != f.OwnerID || f.AgentName != "" && t.agent.Spec.Name != f.AgentName || f.State != "" && t.State != f.State {
			continue
		}
		total++
		if before < 0 || t.Number < before {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *task) int { return cmp.Compare(b.Number, a.Number) })
	page = []TaskRow{}
	for _, t := range all[:min(f.Limit, len(all))] {
		page = append(page, t.rowLocked())
	}
	if len(all) > len(page) {
		next = strconv.Itoa(all[len(page)-1].Number)
	}
	return page, next, total, nil
}
