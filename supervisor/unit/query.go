package unit

import "slices"

func (u *Unit) missing() int {
	if u.dormant {
		return 0
	}
	n := u.instances
	for _, p := range u.processes {
		if p.phase == starting || p.phase == ready && !p.worn {
			n--
		}
	}
	return n
}

func (u *Unit) count(ph phase) int {
	n := 0
	for _, p := range u.processes {
		if p.phase == ph {
			n++
		}
	}
	return n
}

func (u *Unit) anyWorn() bool {
	for _, p := range u.processes {
		if p.phase == ready && p.worn {
			return true
		}
	}
	return false
}

func (u *Unit) ids() []int64 {
	ids := make([]int64, 0, len(u.processes))
	for id := range u.processes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// State of the whole handler: the best of its processes.
func (u *Unit) State() State {
	switch {
	case u.fresh:
		return Starting
	case !u.wanted && len(u.processes) > 0:
		return Draining
	case !u.wanted:
		return Stopped
	case u.count(ready) > 0:
		return Ready
	case u.quarantined:
		return Quarantined
	case u.dormant:
		return Idle
	case u.count(starting) > 0:
		return Starting
	case u.count(retiring) > 0:
		return Unhealthy
	}
	return BackingOff
}

// ProcessState is the state of one process, in the words of handler states.
func (u *Unit) ProcessState(id int64) State {
	p := u.processes[id]
	switch {
	case p == nil:
		return Stopped
	case p.unhealthy:
		return Unhealthy
	case p.phase == starting:
		return Starting
	case p.phase == ready:
		return Ready
	}
	return Draining
}

// Full reports whether as many processes as wanted are ready.
func (u *Unit) Full() bool { return u.count(ready) >= u.instances }

// Restarts after a failure so far.
func (u *Unit) Restarts() int64 { return u.total }
