//go:build unix

package smallfile

import "syscall"

// nonBlocking opens a pipe without waiting for a writer.
const nonBlocking = syscall.O_NONBLOCK
