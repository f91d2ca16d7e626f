package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/blocksd/blocksd/deploy/systemd"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const unitName = "blocksd.service"

// unit looks at the systemd unit: installed, as it comes with blocksd, running.
func unit(ctx context.Context, w *world) []Result {
	var path, text string
	for _, dir := range w.cfg.Paths.Units {
		at := filepath.Join(dir, unitName)
		if b, err := os.ReadFile(at); err == nil {
			path, text = at, string(b)
			break
		}
	}
	state := ""
	if _, err := os.Stat(w.cfg.Paths.Systemd); err == nil && path != "" {
		// Its exit code says the same as its text.
		out, _ := exec.CommandContext(ctx, "systemctl", "is-active", unitName).Output()
		state = strings.TrimSpace(string(out))
	}
	return []Result{aboutUnit(path, text == systemd.Unit, state)}
}

// aboutUnit is about the unit at path, "" for none; active is what systemctl calls its state, "" where nobody can be asked.
func aboutUnit(path string, asShipped bool, active string) Result {
	differs := Result{}
	if !asShipped {
		differs = warn("put it back and make changes with systemctl edit blocksd, unless they are meant", "%s is not the one that comes with this blocksd", path)
	}
	switch {
	case path == "":
		return skip("install the package, or the unit as the operator's manual says, to have one", "the unit is not installed, so there is no service")
	case active == "failed":
		return fail("journalctl -u blocksd -p err says why; then systemctl start blocksd", "%s has failed", path)
	case active == "inactive" || active == "deactivating":
		return warn("systemctl enable --now blocksd", "%s is installed and does not run", path)
	case differs.Detail != "":
		return differs
	case active == "":
		return ok("%s is installed; systemd does not run here", path)
	}
	return ok("%s is %s", path, active)
}

// daemon asks the daemon at the socket how it is.
func daemon(ctx context.Context, w *world) []Result {
	s, err := w.daemonStatus(ctx)
	return []Result{aboutDaemon(w.settings.Socket, s, err, w.cfg.Version)}
}

func aboutDaemon(socket string, s *controlv1.StatusResponse, err error, version string) Result {
	switch {
	case err != nil && strings.Contains(err.Error(), "there is no such socket"):
		return skip("start one, or name its socket with --socket", "none runs at %s", socket)
	case err != nil && strings.Contains(err.Error(), "may not open"):
		return skip("run it as root, or as a member of the socket's group", "%s", sentence(err))
	case err != nil:
		return fail("systemctl restart blocksd, or start the daemon again", "%s", sentence(err))
	case !s.GetReady():
		reasons := "it does not say why"
		if len(s.GetReasons()) > 0 {
			reasons = some(s.GetReasons())
		}
		return warn("blocksd status says more", "version %s, pid %d, is not ready: %s", s.GetVersion(), s.GetPid(), reasons)
	case len(s.GetReasons()) > 0:
		return warn("blocksd status says more", "version %s, pid %d, is ready, but: %s", s.GetVersion(), s.GetPid(), some(s.GetReasons()))
	case s.GetVersion() != version:
		return warn("restart it: systemctl restart blocksd", "version %s, pid %d, is ready; this program has version %s", s.GetVersion(), s.GetPid(), version)
	}
	return ok("version %s, pid %d, is ready with %s", s.GetVersion(), s.GetPid(), plural(len(s.GetAgents()), "agent"))
}
