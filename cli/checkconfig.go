package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// missing returns what a configuration names and this machine does not have, one sentence each.
func missing(c config.Config) []string {
	m := &machineCheck{config: c, found: map[string]catalog.Found{}, keys: config.NewKeys(config.Config{}, func(string) string { return "" })}
	m.keyFile("network.api_key_file", c.Network.APIKeyFile)
	m.plugins()
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
	keys     *config.Keys
	found    map[string]catalog.Found // in the plugins directories, by name
	skipped  []catalog.Skip
	problems []string
}

func (m *machineCheck) add(key, format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf("key %q: ", key)+fmt.Sprintf(format, args...))
}

func (m *machineCheck) plugins() {
	found, skipped := new(catalog.Scanner).Scan(m.config.Plugins.Dirs)
	for _, f := range found {
		m.found[f.Name] = f
	}
	m.skipped = skipped
	byDefault := slices.Equal(m.config.Plugins.Dirs, config.Default().Plugins.Dirs)
	for _, s := range skipped {
		if _, err := os.Stat(s.Path); byDefault && errors.Is(err, fs.ErrNotExist) {
			continue // the file does not name it
		}
		if s.Name == "" {
			m.problems = append(m.problems, s.Reason)
		}
	}
}

func (m *machineCheck) handler(key string, h config.Handler) {
	path, sum := h.Path, ""
	if path != "" {
		if why := catalog.Runnable(path); why != "" {
			m.add(key+"path", "%s cannot be a handler because %s", path, why)
			path = ""
		}
	} else if f, ok := m.found[h.Name]; ok {
		path, sum = f.Path, f.SHA256
	} else if i := slices.IndexFunc(m.skipped, func(s catalog.Skip) bool { return s.Name == h.Name }); i >= 0 {
		m.add(key+"name", "%s", m.skipped[i].Reason)
	} else {
		m.add(key+"name", "there is no program %s in %s: put it there, or name it with path", h.Name, strings.Join(m.config.Plugins.Dirs, ", "))
	}
	if h.SHA256 != "" && path != "" {
		if sum == "" {
			sum, _ = catalog.Hash(path) // it was readable a moment ago
		}
		if !strings.EqualFold(sum, h.SHA256) {
			m.add(key+"sha256", "%s has another checksum, %s", path, sum)
		}
	}
	if info, err := os.Stat(h.Dir); h.Dir != "" && (errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir()) {
		m.add(key+"dir", "there is no directory %s", h.Dir)
	}
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
	var known []string
	for _, h := range m.config.Handlers {
		known = append(known, h.Name)
	}
	if m.config.Plugins.Autoload {
		for found := range m.found {
			known = append(known, found)
		}
	}
	if !slices.Contains(known, name) {
		slices.Sort(known)
		m.add(key, "there is no handler %s%s", name, hintOr(name, known, ": put its program into a plugins directory, or name it under handlers"))
	}
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
