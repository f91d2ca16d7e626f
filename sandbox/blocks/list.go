package blocks

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/blocksd/blocksd/network/wire"
)

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
			return nil, "", 0, InvalidParams("The cursor is none of ours.")
		}
	}
	if f.Limit <= 0 || f.Limit > maxList {
		f.Limit = maxList
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*task
	for _, t := range n.tasks {
		if !n.readable(t, p) || f.OwnerID != "" && t.owner != f.OwnerID || f.AgentName != "" && t.agent.spec.Name != f.AgentName || f.State != "" && t.state != f.State {
			continue
		}
		total++
		if before < 0 || t.number < before {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *task) int { return cmp.Compare(b.number, a.number) })
	page = []TaskRow{}
	for _, t := range all[:min(f.Limit, len(all))] {
		page = append(page, t.row())
	}
	if len(all) > len(page) {
		next = strconv.Itoa(all[len(page)-1].number)
	}
	return page, next, total, nil
}
