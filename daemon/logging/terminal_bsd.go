//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package logging

import "golang.org/x/sys/unix"

// getTermios asks about a terminal, and fails for anything else.
const getTermios = unix.TIOCGETA
