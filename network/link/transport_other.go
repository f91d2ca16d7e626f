//go:build !linux

package link

import "syscall"

// boundUnacknowledged does nothing where the option does not exist; keepalive and our own deadlines remain.
func boundUnacknowledged(_, _ string, _ syscall.RawConn) error { return nil }
