package sandbox

import "time"

// now is the clock of the network.
func (s *Sandbox) now() time.Time { return s.cfg.Now().Add(time.Duration(s.skew.Load())) }

// SetSkew sets the network's clock ahead of the machine's, or behind it if d is negative. A jump ahead makes
// credentials and presence expire.
func (s *Sandbox) SetSkew(d time.Duration) {
	s.skew.Store(int64(d))
	s.blocks.ClockChanged()
}
