//go:build !linux

package launch

// keys is for keyrings of Linux.
func keys() {}

// scheduling is for Linux alone.
func scheduling() {}
