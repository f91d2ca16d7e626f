//go:build !linux

package launch

// keys is for keyrings of Linux.
func keys() {}
