package blocks

// Stats says what there is.
type Stats struct{ Agents, Instances, Tasks, Running, Queued int }

// Stats returns the current numbers; instances are those that are online.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := Stats{Agents: len(n.registry.agents), Tasks: len(n.tasks.byID)}
	for _, a := range n.registry.agents {
		st.Instances += len(a.ready)
		st.Queued += a.queue.waiting
		for _, i := range a.instances {
			for _, t := range i.tasks {
				if t.confirmedLocked() {
					st.Running++
				}
			}
		}
	}
	return st
}
