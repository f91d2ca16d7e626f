package plug

import "time"

// Timeouts are the deadlines of everything that waits for a handler process. Zero members take the defaults.
type Timeouts struct {
	Handshake      time.Duration // from the start of the process to a working connection; default 10 s
	Describe       time.Duration // for Describe and the first health check; default 10 s
	Health         time.Duration // for one health check of a process that is ready; default 2 s
	HealthInterval time.Duration // between health checks; default 5 s
	HealthMisses   int           // checks missed in a row that make a process unhealthy; default 3
	Cancel         time.Duration // for the answer to CancelTask; default 5 s
	LetGo          time.Duration // for a handler to end a call after its task was given up; default 5 s
	Stop           time.Duration // for the answer to Shutdown, and again for the process to end; default 5 s
	Terminate      time.Duration // from SIGTERM to SIGKILL; default 2 s
	Kill           time.Duration // for the kernel to end a killed process; default 5 s
	ExitDrain      time.Duration // for what an ended process has sent to be read, if something else holds its pipes or sockets; default 1 s
	ExitNotice     time.Duration // for the end of a process to be seen after its connection broke; default 5 s
	ExitDoubt      time.Duration // the same while its connection still seems to work; default 250 ms
}

// Filled returns t with the defaults in place of zero members.
func (t Timeouts) Filled() Timeouts {
	for _, d := range []struct {
		member *time.Duration
		value  time.Duration
	}{
		{&t.Handshake, 10 * time.Second}, {&t.Describe, 10 * time.Second}, {&t.Health, 2 * time.Second},
		{&t.HealthInterval, 5 * time.Second}, {&t.Cancel, 5 * time.Second}, {&t.LetGo, 5 * time.Second},
		{&t.Stop, 5 * time.Second}, {&t.Terminate, 2 * time.Second}, {&t.Kill, 5 * time.Second},
		{&t.ExitDrain, time.Second}, {&t.ExitNotice, 5 * time.Second}, {&t.ExitDoubt, 250 * time.Millisecond},
	} {
		if *d.member <= 0 {
			*d.member = d.value
		}
	}
	if t.HealthMisses <= 0 {
		t.HealthMisses = 3
	}
	return t
}
