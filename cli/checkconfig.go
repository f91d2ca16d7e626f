package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// missing returns what a configuration names and this machine does not have. Who owns a file is not looked at: the daemon
// may run as another user than this command.
func missing(l config.Loaded) config.Problems {
	c := l.Config
	m := &machineCheck{config: c, loaded: l, keys: config.NewKeys(config.Config{}, func(string) string { return "" })}
	m.keyFile("network.api_key_file", c.Network.APIKeyFile)
	if !slices.Equal(c.Plugins.Dirs, config.Default().Plugins.Dirs) { // else the file does not name them
		for _, dir := range c.Plugins.Dirs {
			m.directory("plugins.dirs", dir)
		}
	}
	if g := c.Control.OperatorGroup; g != "" {
		if _, err := user.LookupGroup(g); errors.As(err, new(user.UnknownGroupError)) {
			m.add("control.operator_group", "there is no group %s: create it, or name another one", g)
		}
	}
	if info, err := os.Stat(c.StateDir); err == nil && !info.IsDir() {
		m.add("state_dir", "%s is not a directory", c.StateDir)
	}
	for _, dir := range c.Projects {
		m.project(dir)
	}
	if c.Isolation.Launcher != config.Default().Isolation.Launcher {
		m.socket("isolation.launcher", c.Isolation.Launcher)
	}
	if path, ok := config.UnixListen(c.Telemetry.Listen); ok {
		m.directory("telemetry.listen", filepath.Dir(path))
	}
	for i, h := range c.Handlers {
		m.handler(fmt.Sprintf("handlers[%d].", i), h)
	}
	for i, a := range c.Agents {
		m.keyFile(fmt.Sprintf("agents[%d].key_file", i), a.KeyFile)
		if a.Handler != "" {
			m.agentHandler(fmt.Sprintf("agents[%d].handler", i), a.Handler)
		}
	}
	return m.problems
}

// machineCheck compares a configuration with the machine.
type machineCheck struct {
	config   config.Config
	loaded   config.Loaded
	keys     *config.Keys
	projects []string // the agents of the projects
	problems config.Problems
}

func (m *machineCheck) add(key, format string, args ...any) {
	m.problems = append(m.problems, m.loaded.Problem(key, fmt.Sprintf("key %q: ", key)+fmt.Sprintf(format, args...)))
}

func (m *machineCheck) directory(key, dir string) {
	if info, err := os.Stat(dir); dir != "" && (errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir()) {
		m.add(key, "there is no directory %s", dir)
	}
}

func (m *machineCheck) socket(key, path string) {
	info, err := os.Stat(path)
	switch {
	case path == "":
	case errors.Is(err, fs.ErrNotExist):
		m.add(key, "there is no socket %s: start the launcher that listens there, or name another one", path)
	case err == nil && info.Mode()&fs.ModeSocket == 0:
		m.add(key, "%s is not a socket: name the one of a launcher", path)
	}
}

func (m *machineCheck) project(dir string) {
	before := len(m.problems)
	if m.directory("projects", dir); len(m.problems) > before {
		return
	}
	path := filepath.Join(dir, catalog.CardFile)
	c, err := card.Load(path)
	if err == nil {
		m.projects = append(m.projects, c.AgentName)
		err = card.CheckHandlerFile(c, path)
	}
	if err != nil {
		m.add("projects", "%s cannot be served: %v", dir, err)
	}
}

// program is the file of that name in a plugins directory, "" if there is none.
func (m *machineCheck) program(name string) string {
	for _, dir := range m.config.Plugins.Dirs {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

func (m *machineCheck) handler(key string, h config.Handler) {
	named, path := key+"path", h.Path
	if path == "" {
		named, path = key+"name", m.program(h.Name)
	}
	if path == "" {
		m.add(named, "there is no program %s in %s: put it there, or name it with path", h.Name, strings.Join(m.config.Plugins.Dirs, ", "))
	} else if why := catalog.Runnable(path); why != "" {
		m.add(named, "%s cannot be a handler because %s", path, why)
		path = ""
	}
	if h.SHA256 != "" && path != "" {
		if sum, err := catalog.Hash(path); err == nil && !strings.EqualFold(sum, h.SHA256) {
			m.add(key+"sha256", "%s has another checksum, %s", path, sum)
		}
	}
	m.directory(key+"dir", h.Dir)
	for _, list := range []struct {
		name  string
		paths []string
	}{{"read_paths", h.ReadPaths}, {"write_paths", h.WritePaths}} {
		for _, path := range list.paths {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				m.add(key+list.name, "there is no file or directory %s", path)
			}
		}
	}
	if _, err := user.Lookup(h.User); h.User != "" && errors.As(err, new(user.UnknownUserError)) {
		if _, err := strconv.ParseUint(h.User, 10, 31); err != nil { // a number needs no entry
			m.add(key+"user", "there is no user %s: create it, or name another one", h.User)
		}
	}
}

func (m *machineCheck) agentHandler(key, name string) {
	known := slices.Clone(m.projects)
	for _, h := range m.config.Handlers {
		known = append(known, h.Name)
	}
	if slices.Contains(known, name) || m.config.Plugins.Autoload && m.program(name) != "" {
		return
	}
	m.add(key, "there is no handler %s%s", name, hintOr(name, known, ": put its program into a plugins directory, or name it under handlers"))
}

// keyFile looks at a file that should hold an API key. A pipe can be read only once, and not by this process; a file that
// only the daemon may read is left alone.
func (m *machineCheck) keyFile(key, path string) {
	if path == "" {
		return
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.add(key, "there is no file %s", path)
	case err != nil || info.Mode()&os.ModeNamedPipe != 0:
	default:
		if _, err := m.keys.Key(path); err != nil && !errors.Is(err, fs.ErrPermission) {
			m.add(key, "%s", err)
		}
	}
}
