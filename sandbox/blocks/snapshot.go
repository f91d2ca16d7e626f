package blocks

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// State is the part of a network that outlives a restart. Short-lived state does not: logins and uploads in progress,
// and presence. It consists of the records that the network itself works with, so their fields are the form of the
// state file.
type State struct {
	Signer     []byte                               `json:"signer"`
	Secrets    map[wire.BillingMode][]byte          `json:"secrets"`
	Generation int64                                `json:"generation"`
	Spaces     map[wire.BillingMode]pubsub.Snapshot `json:"spaces"`
	OrgNames   map[string]string                    `json:"orgNames"`
	Keys       []apiKey                             `json:"keys"`
	Agents     []agentState                         `json:"agents"`
	Invites    []invitation                         `json:"invites"`
	Tasks      []taskRecord                         `json:"tasks"`
	Files      []fileRecord                         `json:"files"`
	Submitted  int                                  `json:"submitted"`

	Refresh []refreshToken                            `json:"refresh,omitempty"` // oldest first
	Revoked map[wire.BillingMode]map[string]time.Time `json:"revoked,omitempty"`
}

// agentState is an agent with its instances.
type agentState struct {
	agentRecord
	Instances []instanceRecord
}

// Snapshot returns the state of one moment.
func (n *Network) Snapshot() State {
	st := State{
		Signer: n.tokens.signer, Secrets: n.secrets, Spaces: map[wire.BillingMode]pubsub.Snapshot{}, OrgNames: map[string]string{},
		Revoked: map[wire.BillingMode]map[string]time.Time{},
	}
	for mode, env := range n.envs {
		st.Revoked[mode] = env.Access.Revoked()
	}
	// The order of the locks is that of observers: spaces first.
	st.Spaces[wire.Free] = n.envs[wire.Free].Space.Snapshot(func() {
		st.Spaces[wire.Paid] = n.envs[wire.Paid].Space.Snapshot(func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.snapshotLocked(&st)
		})
	})
	return st
}

// snapshotLocked fills in everything but the spaces: copies, which no later change reaches.
func (n *Network) snapshotLocked(st *State) {
	st.Generation, st.Submitted, st.Refresh = n.tokens.generation.Load(), n.tasks.submitted, n.tokens.keptLocked()
	for id, o := range n.accounts.orgs {
		st.OrgNames[id] = o.Name
	}
	for _, k := range n.accounts.keys {
		st.Keys = append(st.Keys, *k)
	}
	for _, a := range n.registry.agents {
		s := agentState{agentRecord: a.agentRecord}
		s.Grants, s.Streams = slices.Clone(s.Grants), maps.Clone(s.Streams)
		for _, i := range a.instances {
			if i.online || len(i.tasks) > 0 {
				s.Instances = append(s.Instances, i.instanceRecord)
			}
		}
		st.Agents = append(st.Agents, s)
	}
	for _, v := range n.registry.invites {
		st.Invites = append(st.Invites, *v)
	}
	for _, t := range n.tasks.byID {
		st.Tasks = append(st.Tasks, t.copyLocked())
	}
	for _, u := range n.files.uploads {
		if u.confirmed && u.TaskID != "" {
			st.Files = append(st.Files, u.fileRecord)
		}
	}
}

// restore makes an empty network what it was. Instances count as lost at this moment: they keep the tasks that they
// run if they connect in time; what they had not begun goes to another instance.
func (n *Network) restore(st *State) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tokens.restoreLocked(st.Signer, st.Generation, st.Refresh)
	for id, name := range st.OrgNames {
		if o := n.accounts.orgs[id]; o != nil {
			o.Name = name
		}
	}
	for _, k := range st.Keys {
		if n.accounts.orgs[k.OrgID] != nil {
			n.accounts.keys[k.Value] = &k
		}
	}
	for mode, revoked := range st.Revoked {
		if env := n.envs[mode]; env != nil {
			env.Access.Restore(revoked)
		}
	}
	for _, s := range st.Agents {
		if err := n.restoreAgentLocked(s); err != nil {
			return err
		}
	}
	for _, v := range st.Invites {
		if n.registry.agents[v.Agent] != nil {
			n.registry.invites[v.Token] = &v
		}
	}
	if err := n.restoreTasksLocked(st); err != nil {
		return err
	}
	for _, f := range st.Files {
		if t := n.tasks.byID[f.TaskID]; t != nil {
			n.files.restoreLocked(f)
			t.files = append(t.files, f.ID)
		}
	}
	for mode, space := range st.Spaces {
		if env := n.envs[mode]; env != nil {
			env.Space.Restore(space)
		}
	}
	return nil
}

func (n *Network) restoreAgentLocked(s agentState) error {
	a := newAgent(s.agentRecord)
	if a.env = n.envs[a.Spec.BillingMode]; a.env == nil || n.accounts.orgs[a.Spec.OrgID] == nil {
		return fmt.Errorf("restore agent %s: the billing mode %q or the organization %q is unknown", a.Spec.Name, a.Spec.BillingMode, a.Spec.OrgID)
	}
	a.Grants = slices.DeleteFunc(a.Grants, func(g grant) bool { return n.accounts.orgs[g.OrgID] == nil })
	n.registry.addLocked(a)
	for _, record := range s.Instances {
		record.slots = slots{Concurrency: record.Concurrency} // it has no tasks yet
		i := newInstance(a, record)
		i.lostAt = n.cfg.Now()
		a.instances[i.ID] = i
		n.loop.atLocked(i.lostAt.Add(n.cfg.SafetyNet), func() { n.failLostLocked(i) })
	}
	return nil
}

func (n *Network) restoreTasksLocked(st *State) error {
	n.tasks.submitted = st.Submitted
	// Finished tasks are forgotten in the order in which they ended.
	slices.SortFunc(st.Tasks, func(a, b taskRecord) int {
		return cmp.Or(a.Updated.Compare(b.Updated), cmp.Compare(a.Number, b.Number))
	})
	var waiting []*task
	for _, record := range st.Tasks {
		t, err := n.restoreTaskLocked(record)
		if err != nil {
			return err
		}
		if t.State == wire.Pending && t.instance == nil {
			waiting = append(waiting, t)
		}
	}
	slices.SortFunc(waiting, func(a, b *task) int { return cmp.Compare(a.Number, b.Number) })
	for _, t := range waiting {
		t.agent.queue.push(t)
	}
	return nil
}

func (n *Network) restoreTaskLocked(record taskRecord) (*task, error) {
	t := &task{taskRecord: record, env: n.envs[record.Mode], delivery: delivery{answered: true}}
	if t.env == nil {
		return nil, fmt.Errorf("restore task %s: the billing mode %q is unknown", t.ID, t.Mode)
	}
	if t.agent = n.registry.agents[t.AgentName]; t.agent == nil { // deleted since; its tasks can still be read
		t.agent = newAgent(agentRecord{Spec: AgentSpec{Name: t.AgentName, OrgID: t.OrgID, Private: true}})
		t.agent.env = t.env
	}
	n.tasks.addLocked(t)
	if t.State.Final() {
		n.tasks.finished = append(n.tasks.finished, t.ID)
		if t.Streams != nil {
			n.loop.atLocked(t.Updated.Add(n.cfg.StreamRevokeDelay), func() { n.revokeStreamsLocked(t) })
		}
		return t, nil
	}
	if i := t.agent.instances[t.InstanceID]; i != nil {
		t.instance, t.sent = i, true
		i.tasks[t.ID] = t
		i.slots.confirm(i.slots.dispatched())
	} else {
		t.InstanceID = ""
		if t.State == wire.Running {
			n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: "the agent instance that ran the task was lost"})
		}
	}
	if t.Kind == wire.Pipe {
		n.expireAtLocked(t)
	}
	if t.CancelRequested {
		n.loop.atLocked(n.cfg.Now().Add(n.cfg.CancelBudget), func() { n.endTaskLocked(t, wire.Terminal{State: wire.Canceled}) })
	}
	return t, nil
}
