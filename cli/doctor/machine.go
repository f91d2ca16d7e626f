package doctor

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// cgroups looks at the control groups of the machine. Whether a running daemon may use them is in its status.
func cgroups(ctx context.Context, w *world) []Result {
	where := w.settings.Isolation.Cgroup
	controllers, err := os.ReadFile(filepath.Join(w.cfg.Paths.Cgroups, "cgroup.controllers"))
	var limits []string
	if s, statusErr := w.daemonStatus(ctx); statusErr == nil {
		for _, c := range s.GetConditions() {
			if c.GetCode() == "limit_skipped" {
				limits = append(limits, c.GetText())
			}
		}
	}
	return []Result{aboutCgroups(where, strings.Fields(string(controllers)), err == nil, limits)}
}

func aboutCgroups(where string, controllers []string, version2 bool, skippedLimits []string) Result {
	const delegate = "run the daemon by the systemd unit, which delegates them (Delegate=), or name a group with isolation.cgroup"
	switch {
	case runtime.GOOS != "linux":
		return skip("run handlers that need limits on Linux", "this system has none, so limits of handlers are not enforced")
	case len(skippedLimits) > 0:
		return warn(delegate, "the running daemon cannot enforce limits: %s", some(skippedLimits))
	case where == "off":
		return skip("remove isolation.cgroup to use them", "they are switched off in the configuration")
	case !version2:
		return warn("start the kernel with control groups version 2 (systemd.unified_cgroup_hierarchy=1)",
			"version 2 is not there, so limits of memory and processes count for each process alone, and that of the CPU not at all")
	}
	var missing []string
	for _, wanted := range []string{"memory", "pids", "cpu"} {
		if !slices.Contains(controllers, wanted) {
			missing = append(missing, wanted)
		}
	}
	if len(missing) > 0 {
		return warn("enable them in the kernel, or for the container that this is", "version 2, without the controllers %s", strings.Join(missing, ", "))
	}
	return ok("version 2, with memory, pids and cpu")
}

// landlock looks at what keeps handlers to their paths.
func landlock(_ context.Context, w *world) []Result {
	version, why := landlockVersion()
	wanted := false
	for _, h := range w.settings.Handlers {
		wanted = wanted || len(h.ReadPaths)+len(h.WritePaths) > 0
	}
	return []Result{aboutLandlock(version, why, wanted)}
}

// landlockFull is the first version that guards against everything that blocksd asks for.
const landlockFull = 3

func aboutLandlock(version int, why string, wanted bool) Result {
	fix := "use a kernel with landlock (5.13, better 6.2 or newer); until then read_paths and write_paths are not enforced"
	switch {
	case version == 0 && wanted:
		return fail(fix, "%s, and the configuration has read_paths or write_paths", why)
	case version == 0:
		return warn(fix, "%s", why)
	case version < landlockFull:
		return warn("use a kernel of version 6.2 or newer", "version %d: files outside of write_paths can be emptied", version)
	}
	return ok("version %d", version)
}
