//go:build !linux

package journal

import "os"

// syncData makes what was written into the file durable.
func syncData(f *os.File) error { return f.Sync() }
