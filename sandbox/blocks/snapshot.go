package blocks

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// State is what of a network outlives a restart. What is short-lived does not: logins and uploads that are under way, and
// presence.
type State struct {
	Signer     []byte                               `json:"signer"`
	Secrets    map[wire.BillingMode][]byte          `json:"secrets"`
	Generation int64                                `json:"generation"`
	Spaces     map[wire.BillingMode]pubsub.Snapshot `json:"spaces"`
	OrgNames   map[string]string                    `json:"orgNames"`
	Keys       []savedKey                           `json:"keys"`
	Agents     []savedAgent                         `json:"agents"`
	Invites    []savedInvite                        `json:"invites"`
	Tasks      []savedTask                          `json:"tasks"`
	Files      []savedFile                          `json:"files"`
	Submitted  int                                  `json:"submitted"`

	Refresh []savedRefresh                            `json:"refresh,omitempty"` // oldest first
	Revoked map[wire.BillingMode]map[string]time.Time `json:"revoked,omitempty"`
}

type savedRefresh struct {
	Token, APIKey, Agent, Instance string
	Expires                        time.Time
}

type savedStream struct {
	Requested      bool
	Channel, Token string
}

type savedKey struct {
	APIKey
	Value string
}

type savedAgent struct {
	Spec          AgentSpec
	ID            string
	RegisteredAt  time.Time
	ForcedOffline bool
	Backlog       int
	Broadcast     bool
	MaxRunning    time.Duration
	Grants        []savedGrant
	Streams       map[string]bool
	Instances     []savedInstance
}

type savedGrant struct {
	ID, Org string
	Created time.Time
	User    bool
}

type savedInstance struct {
	ID          string
	Concurrency int
	ConnectedAt time.Time
	Build       Build
}

type savedInvite struct {
	ID, Token, Email, Slug, Agent string
	Created, Expires              time.Time
}

type savedTask struct {
	ID, Owner, OrgID, ByAgent, Agent string
	Mode                             wire.BillingMode
	Number                           int
	Channel, Inputs                  string
	Kind                             wire.TaskKind
	Duration                         time.Duration
	ExpiresAtMS                      int64
	HasStream                        bool
	PublicKey                        string
	KeyUser, Key                     string
	Parts                            json.RawMessage `json:",omitempty"`
	State                            wire.TaskState
	Created, Updated                 time.Time
	CancelRequested                  bool
	Instance                         string // that runs it
	Deadline                         time.Time
	Streams                          map[string]savedStream `json:",omitempty"`
}

type savedFile struct {
	ID, FileID, Blob, Task, OutputID, PartID, Name, MIME, UserID, Channel string
	Size                                                                  int64
	Created                                                               time.Time
}

// Snapshot returns the state of one moment.
func (n *Network) Snapshot() (State, error) {
	st := State{
		Signer: n.signer, Secrets: n.secrets, Spaces: map[wire.BillingMode]pubsub.Snapshot{}, OrgNames: map[string]string{},
		Revoked: map[wire.BillingMode]map[string]time.Time{},
	}
	for mode, env := range n.envs {
		st.Revoked[mode] = env.Access.Revoked()
	}
	var err error
	// The order of the locks is that of observers: spaces first.
	st.Spaces[wire.Free] = n.envs[wire.Free].Space.Snapshot(func() {
		st.Spaces[wire.Paid] = n.envs[wire.Paid].Space.Snapshot(func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			err = n.save(&st)
		})
	})
	return st, err
}

// save fills in everything but the spaces. The lock is held.
func (n *Network) save(st *State) error {
	st.Generation, st.Submitted = n.generation.Load(), n.submitted
	for id, o := range n.orgs {
		st.OrgNames[id] = o.Name
	}
	for _, token := range n.refreshes {
		if r, ok := n.refresh[token]; ok {
			st.Refresh = append(st.Refresh, savedRefresh{token, r.apiKey, r.agent, r.instance, r.expires})
		}
	}
	for _, k := range n.apiKeys {
		st.Keys = append(st.Keys, savedKey{k.public(), k.secret})
	}
	for _, a := range n.agents {
		s := savedAgent{
			Spec: a.spec, ID: a.id, RegisteredAt: a.registeredAt, ForcedOffline: a.forcedOffline, Backlog: a.backlog, Broadcast: a.broadcast,
			MaxRunning: a.maxRunning, Streams: map[string]bool{},
		}
		for name := range a.streams {
			s.Streams[name] = true
		}
		for _, g := range a.grants {
			s.Grants = append(s.Grants, savedGrant{g.id, g.org.ID, g.created, g.user})
		}
		for _, i := range a.instances {
			if i.online || len(i.tasks) > 0 {
				s.Instances = append(s.Instances, savedInstance{i.id, i.slots.concurrency, i.connectedAt, i.build})
			}
		}
		st.Agents = append(st.Agents, s)
	}
	for _, v := range n.invites {
		st.Invites = append(st.Invites, savedInvite{v.id, v.token, v.email, v.slug, v.agent.spec.Name, v.created, v.expires})
	}
	for _, t := range n.tasks {
		s := savedTask{
			ID: t.id, Owner: t.owner, OrgID: t.orgID, ByAgent: t.byAgent, Agent: t.agent.spec.Name, Mode: n.mode(t.env), Number: t.number, Channel: t.channel,
			Inputs: t.inputs, Kind: t.kind, Duration: t.duration, ExpiresAtMS: t.expiresAtMS, HasStream: t.hasStream, PublicKey: t.publicKey,
			KeyUser: t.key.userID, Key: t.key.key, State: t.state, Created: t.created, Updated: t.updated, CancelRequested: t.cancelRequested,
			Deadline: t.deadline,
		}
		for id, x := range t.streams {
			if s.Streams == nil {
				s.Streams = map[string]savedStream{}
			}
			s.Streams[id] = savedStream{x.requested, x.channel, x.token}
		}
		if t.instance != nil && t.confirmed {
			s.Instance = t.instance.id
		}
		if t.parts != nil {
			raw, err := json.Marshal(t.parts)
			if err != nil {
				return fmt.Errorf("save task %s: %w", t.id, err)
			}
			s.Parts = raw
		}
		st.Tasks = append(st.Tasks, s)
	}
	for _, u := range n.uploads {
		if u.confirmed && u.task != nil {
			st.Files = append(st.Files, savedFile{u.id, u.fileID, u.blob, u.task.id, u.outputID, u.partID, u.name, u.mime, u.userID, u.channel, u.size, u.created})
		}
	}
	return nil
}

func (n *Network) mode(env *Environment) wire.BillingMode {
	if env == n.envs[wire.Paid] {
		return wire.Paid
	}
	return wire.Free
}

// restore makes an empty network what it was. Instances count as lost at this moment: what they run is theirs if they
// show up in time, what they had not begun goes to whoever is there.
func (n *Network) restore(st *State) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Now()
	n.generation.Store(st.Generation)
	n.submitted = st.Submitted
	for id, name := range st.OrgNames {
		if o := n.orgs[id]; o != nil {
			o.Name = name
		}
	}
	for _, k := range st.Keys {
		if o := n.orgs[k.OrgID]; o != nil {
			n.apiKeys[k.Value] = &apiKey{id: k.ID, name: k.Name, secret: k.Value, org: o, created: k.Created, expires: k.Expires, revoked: k.Revoked}
		}
	}
	for _, r := range st.Refresh {
		n.refresh[r.Token] = refreshToken{r.APIKey, r.Agent, r.Instance, r.Expires}
		n.refreshes = append(n.refreshes, r.Token)
	}
	for mode, revoked := range st.Revoked {
		if env := n.envs[mode]; env != nil {
			env.Access.Restore(revoked)
		}
	}
	for _, s := range st.Agents {
		if err := n.restoreAgent(s); err != nil {
			return err
		}
	}
	for _, v := range st.Invites {
		if a := n.agents[v.Agent]; a != nil {
			n.invites[v.Token] = &invitation{v.ID, v.Token, v.Email, v.Slug, a, v.Created, v.Expires}
		}
	}
	slices.SortFunc(st.Tasks, func(a, b savedTask) int { return cmp.Or(a.Updated.Compare(b.Updated), cmp.Compare(a.Number, b.Number)) })
	var waiting []*task
	for _, s := range st.Tasks {
		t, err := n.restoreTask(s, now)
		if err != nil {
			return err
		}
		if t.state == wire.Pending && t.instance == nil {
			waiting = append(waiting, t)
		}
	}
	slices.SortFunc(waiting, func(a, b *task) int { return cmp.Compare(a.number, b.number) })
	for _, t := range waiting {
		t.agent.queue.push(t)
	}
	for _, f := range st.Files {
		t := n.tasks[f.Task]
		if t == nil {
			continue
		}
		u := &upload{
			id: f.ID, fileID: f.FileID, blob: f.Blob, task: t, outputID: f.OutputID, partID: f.PartID, name: f.Name, mime: f.MIME, userID: f.UserID,
			channel: f.Channel, size: f.Size, created: f.Created, received: true, confirmed: true,
		}
		n.uploads[u.id], n.files[u.fileID] = u, u
		t.files = append(t.files, u.id)
	}
	for mode, space := range st.Spaces {
		if env := n.envs[mode]; env != nil {
			env.Space.Restore(space)
		}
	}
	return nil
}

func (n *Network) restoreAgent(s savedAgent) error {
	if err := n.register(s.Spec); err != nil {
		return fmt.Errorf("restore agent %s: %w", s.Spec.Name, err)
	}
	a := n.agents[s.Spec.Name]
	delete(n.byControl, a.control)
	a.id, a.control = s.ID, wire.ControlChannel(s.ID)
	n.byControl[a.control] = a
	a.registeredAt, a.forcedOffline, a.backlog, a.broadcast, a.maxRunning = s.RegisteredAt, s.ForcedOffline, s.Backlog, s.Broadcast, s.MaxRunning
	for name := range s.Streams {
		a.streams[name] = true
	}
	for _, g := range s.Grants {
		if o := n.orgs[g.Org]; o != nil {
			a.grants[g.ID] = &grant{g.ID, g.Created, o, g.User}
		}
	}
	for _, saved := range s.Instances {
		i := &instance{id: saved.ID, agent: a, tasks: map[string]*task{}, index: -1, lostAt: n.cfg.Now(), connectedAt: saved.ConnectedAt, build: saved.Build}
		i.slots.concurrency = saved.Concurrency
		a.instances[i.id] = i
		n.at(i.lostAt.Add(n.cfg.SafetyNet), func() { n.safetyNet(i) })
	}
	return nil
}

func (n *Network) restoreTask(s savedTask, now time.Time) (*task, error) {
	a := n.agents[s.Agent]
	if a == nil { // deleted since; its tasks can still be read
		a = &agent{spec: AgentSpec{Name: s.Agent, OrgID: s.OrgID, Private: true}, env: n.envs[s.Mode], instances: map[string]*instance{}, unclaimed: map[string]*task{}}
	}
	t := &task{
		id: s.ID, owner: s.Owner, orgID: s.OrgID, byAgent: s.ByAgent, agent: a, env: n.envs[s.Mode], number: s.Number, channel: s.Channel, inputs: s.Inputs,
		kind: s.Kind, duration: s.Duration, expiresAtMS: s.ExpiresAtMS, hasStream: s.HasStream, publicKey: s.PublicKey, key: idempotencyKey{s.KeyUser, s.Key},
		state: s.State, created: s.Created, updated: s.Updated, cancelRequested: s.CancelRequested, answered: true, deadline: s.Deadline,
	}
	if t.env == nil {
		return nil, fmt.Errorf("restore task %s: the billing mode %q is unknown", s.ID, s.Mode)
	}
	if s.Parts != nil {
		if err := json.Unmarshal(s.Parts, &t.parts); err != nil {
			return nil, fmt.Errorf("restore task %s: %w", s.ID, err)
		}
	}
	n.tasks[t.id] = t
	if t.key.key != "" {
		n.keys[t.key] = t
	}
	for id, x := range s.Streams {
		if t.streams == nil {
			t.streams = map[string]*stream{}
		}
		t.streams[id] = &stream{x.Requested, x.Channel, x.Token}
	}
	if t.state.Final() {
		n.finished = append(n.finished, t.id)
		if t.streams != nil {
			n.at(t.updated.Add(n.cfg.StreamRevokeDelay), func() { n.revokeStreams(t) })
		}
		return t, nil
	}
	if i := a.instances[s.Instance]; i != nil {
		t.instance, t.sent, t.confirmed = i, true, true
		i.tasks[t.id] = t
		i.slots.confirm(i.slots.dispatched())
	} else if t.state == wire.Running {
		n.endTask(t, wire.Terminal{State: wire.Failed, Error: "the agent instance that ran the task was lost"})
	}
	if t.kind == wire.Pipe {
		n.expireAt(t)
	}
	if t.cancelRequested {
		n.at(now.Add(n.cfg.CancelBudget), func() { n.endTask(t, wire.Terminal{State: wire.Canceled}) })
	}
	return t, nil
}
