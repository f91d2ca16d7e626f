package roster

import (
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// isolate gives a handler its limits.
func isolate(h config.Handler, to *supervisor.HandlerConfig) {
	to.MTLS, to.Limits = h.MTLS, Limits(h)
}

// Limits are those of a handler. What its entry leaves out is already what all have.
func Limits(h config.Handler) launch.Limits {
	return launch.Limits{
		MemoryBytes: int64(h.MemoryMiB) << 20,
		Processes:   h.Processes,
		CPUPercent:  h.CPUPercent,
		Files:       h.Files,
		ReadPaths:   h.ReadPaths, WritePaths: h.WritePaths,
		User: h.User, Level: launch.Level(h.Level), Strict: h.Strict,
	}
}
