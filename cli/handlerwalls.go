package cli

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/supervisor/conformance"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// buildWalls has handlers checked behind the walls that blocksd run would put around them. Control groups are left out: a
// daemon may have them. release follows.
func (c *handlerCheck) buildWalls() (release func(), err error) {
	sources := config.Sources{File: c.config}
	if c.config != "" {
		sources.Fragments = config.FragmentsOf(c.config)
	}
	loaded, err := config.Read(sources)
	if err != nil {
		return nil, err
	}
	settings := loaded.Config
	dir, err := c.devStateDir(c.stateDir)
	if err != nil {
		return nil, err
	}
	closed := []string{settings.StateDir, dir, settings.Network.APIKeyFile}
	for _, a := range settings.Agents {
		closed = append(closed, a.KeyFile)
	}
	machine := launch.Probe(launch.Self(), "off")
	release = machine.Close
	first, last, err := settings.Isolation.UserRange()
	if err == nil && last != 0 && os.Geteuid() == 0 {
		// Its users are nobody's afterwards: what they own is gone with the bench.
		var temp string
		if temp, err = os.MkdirTemp("", "blocksd-check-"); err != nil {
			return nil, err
		}
		release = func() {
			machine.Close()
			_ = os.RemoveAll(temp) // nothing depends on it
		}
		machine.Users, err = launch.OpenUsers(filepath.Join(temp, "users"), first, last)
	}
	if err != nil {
		release()
		return nil, err
	}
	c.options.Walls = &conformance.Walls{Machine: machine, Closed: closed, Sockets: []string{settings.Socket}, Of: func(handler string) (launch.Limits, bool) {
		h := config.Handler{Name: handler, ProcessLimits: settings.Isolation.ProcessLimits}
		if i := slices.IndexFunc(settings.Handlers, func(h config.Handler) bool { return h.Name == handler }); i >= 0 {
			h = settings.Handlers[i]
		}
		return roster.Limits(h), h.MTLS
	}}
	return release, nil
}
