package blocks

import (
	"cmp"
	"time"
)

// instance is one running copy of an agent.
type instance struct {
	instanceRecord
	agent *agent
	// online by presence; polled since it came online: only then it misses no message.
	online, polled bool
	lostAt         time.Time
	tasks          map[string]*task // sent to it and not ended
	fallback       bool             // a slot fallback is scheduled
	index          int              // in agent.ready, -1 if not there
	lastPick       int

	controlToken string
	controlRenew time.Time
}

// instanceRecord is what is kept of an instance; of its slots that is how many it has.
type instanceRecord struct {
	ID          string
	ConnectedAt time.Time
	Build       Build
	slots
}

func newInstance(a *agent, record instanceRecord) *instance {
	return &instance{instanceRecord: record, agent: a, tasks: map[string]*task{}, index: -1}
}

// loads is a heap of the instances that are ready: the one that can take a task and is least loaded comes first.
type loads []*instance

func (l loads) Len() int { return len(l) }

func (l loads) Less(i, j int) bool {
	a, b := l[i], l[j]
	if free := a.slots.free(); free != b.slots.free() {
		return free
	}
	return cmp.Or(cmp.Compare(a.slots.load(), b.slots.load()), cmp.Compare(a.lastPick, b.lastPick)) < 0
}

func (l loads) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

func (l *loads) Push(x any) {
	i := x.(*instance)
	i.index = len(*l)
	*l = append(*l, i)
}

func (l *loads) Pop() any {
	old := *l
	i := old[len(old)-1]
	old[len(old)-1] = nil
	*l = old[:len(old)-1]
	i.index = -1
	return i
}

// Build is what an instance says about its software.
type Build struct {
	SDKLanguage, SDKVersion, CLIVersion, DeviceOS, PreferredProtocol string
	Protocols                                                        []string
}

// maxOffline bounds the instances of an agent that are remembered although they are offline.
const maxOffline = 256

// noteOfflineLocked notes that an instance is not online, and forgets the one that has been so for longest when there
// are many.
func (a *agent) noteOfflineLocked(i *instance) {
	a.offline = append(a.offline, i.ID)
	for len(a.offline) > maxOffline {
		if old := a.instances[a.offline[0]]; old != nil && !old.online && len(old.tasks) == 0 && old != i {
			delete(a.instances, old.ID)
		}
		a.offline = a.offline[1:]
	}
}

// takesTaskLocked reports whether a task sent now would have an instance at once.
func (a *agent) takesTaskLocked() bool { return len(a.ready) > 0 && a.ready[0].slots.free() }
