//go:build !linux

package testutil

// ForbidCalls does nothing where no test forbids system calls.
func ForbidCalls() {}
