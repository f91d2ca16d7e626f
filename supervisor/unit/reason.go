package unit

// Reason says why a process ended or was taken out of use.
type Reason int

// The reasons. The table below says what follows from each.
const (
	Requested    Reason = iota + 1 // we asked it to end
	ExitCode                       // ended by itself with an exit code, zero included
	Signal                         // ended by a signal that we did not send
	Spawn                          // could not be started at all
	StartTimeout                   // no handshake in time
	Handshake                      // what it said first is not a handshake, or one of another version
	Checksum                       // the file is not the one that was pinned
	Describe                       // failed to describe itself
	Health                         // stopped answering health checks
	Tainted                        // did not let go of a task that was ended
	OutOfMemory                    // killed by the kernel because it reached its memory limit
	Refused                        // not started, because the machine cannot keep its limits or a setting cannot be followed
)

var reasons = [...]struct {
	name string
	// hopeless failures are not worth a restart: nothing changes until the file does.
	hopeless bool
}{
	Requested:    {name: "requested"},
	ExitCode:     {name: "exit_code"},
	Signal:       {name: "signal"},
	Spawn:        {name: "spawn"},
	StartTimeout: {name: "start_timeout"},
	Handshake:    {name: "handshake"},
	Checksum:     {name: "checksum", hopeless: true},
	Describe:     {name: "describe"},
	Health:       {name: "health"},
	Tainted:      {name: "tainted"},
	OutOfMemory:  {name: "out_of_memory"},
	Refused:      {name: "refused", hopeless: true},
}

func (r Reason) String() string {
	if r <= 0 || int(r) >= len(reasons) {
		return "unknown"
	}
	return reasons[r].name
}

// Hopeless reports whether a restart cannot help before something else changes.
func (r Reason) Hopeless() bool { return r.hopeless() }

func (r Reason) hopeless() bool { return r > 0 && int(r) < len(reasons) && reasons[r].hopeless }
