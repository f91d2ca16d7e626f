//go:build !linux

package cli

import "os"

// hideProcess takes the API key out of the environment; other systems let nobody be kept from a process's memory.
func hideProcess() error { return os.Unsetenv("BLOCKS_API_KEY") }
