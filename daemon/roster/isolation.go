package roster

import (
	"cmp"

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
