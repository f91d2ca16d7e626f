package sandbox

import "time"

// now is the clock of the network.
func (s *Sandbox) now() time.Time { return s.cfg.Now().Add(time.Duration(s.skew.Load())) }

// SetSkew sets the network's clock before (negative: behind) the machine's. A jump forwards lets credentials and
// presence run out.
func (s *Sandbox) SetSkew(d time.Duration) {
	s.skew.Store(int64(d))
	s.blocks.ClockChanged()
}
