package daemon

import (
	"cmp"
	"os"
	"path/filepath"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// isolate gives a handler its limits: its own, else those of all.
func isolate(c config.Isolation, h config.Handler, to *supervisor.HandlerConfig) {
	to.MTLS = h.MTLS || c.MTLS
	to.Limits = launch.Limits{
		MemoryBytes: int64(cmp.Or(h.MemoryMiB, c.MemoryMiB)) << 20,
		Processes:   cmp.Or(h.Processes, c.Processes),
		CPUPercent:  cmp.Or(h.CPUPercent, c.CPUPercent),
		Files:       cmp.Or(h.Files, c.Files),
		ReadPaths:   h.ReadPaths, WritePaths: h.WritePaths,
		User: h.User, Strict: h.Strict || c.Strict,
	}
}

// self is this program as the launch shim. By this name it is found when its file was replaced meanwhile, too.
const self = "/proc/self/exe"

// shim is this program, if it knows how to be one: a program of tests may not.
func shim() string {
	path, err := os.Executable()
	if err != nil || filepath.Ext(path) == ".test" {
		return ""
	}
	return self
}
