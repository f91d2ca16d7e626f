package roster

import (
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// isolate gives a handler its limits. Those that its entry leaves out are already those of all.
func isolate(h config.Handler, to *supervisor.HandlerConfig) {
	to.MTLS = h.MTLS
	to.Limits = launch.Limits{
		MemoryBytes: int64(h.MemoryMiB) << 20,
		Processes:   h.Processes,
		CPUPercent:  h.CPUPercent,
		Files:       h.Files,
		ReadPaths:   h.ReadPaths, WritePaths: h.WritePaths,
		User: h.User, Level: launch.Level(h.Level), Strict: h.Strict,
	}
}
