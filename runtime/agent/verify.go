package agent

import "context"

// Verify asks the network whether it still takes this agent: an idle one sends nothing that its key is needed for, so it would
// not learn that the key was revoked or that the agent was taken offline. When the answer is a refusal for good the agent
// fails, as if it had met it by itself. It reports whether the network has answered.
func (a *Agent) Verify(ctx context.Context) (answered bool) {
	a.mu.Lock()
	s := a.conn.session
	a.mu.Unlock()
	if s == nil {
		return false // it connects, and learns by that
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
	defer cancel()
	err := s.auth.Verify(ctx)
	if final(err) {
		a.log.Error("the network does not take the agent any more", "err", err)
		a.fail(err)
	}
	return err == nil || final(err)
}
