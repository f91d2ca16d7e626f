package dispatch

// Availability of a handler decides how an agent announces itself.
type Availability int

// The availabilities, from best to worst.
const (
	// Available: at least one process is ready.
	Available Availability = iota + 1
	// Recovering: no process is ready, but one is expected soon; the agent announces itself full and holds what it
	// receives for a short while.
	Recovering
	// Unavailable: no process is expected soon; the agent leaves the network's presence.
	Unavailable
)

func (a Availability) String() string {
	switch a {
	case Available:
		return "available"
	case Recovering:
		return "recovering"
	case Unavailable:
		return "unavailable"
	}
	return "unknown"
}
