package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// MaxSocketPath is the longest path that a Unix socket may have on Linux: 108 bytes with the final zero.
const MaxSocketPath = 107

// minMemoryMiB is less than a small handler needs; a smaller number is a mistake, such as one that was meant to be GiB.
const minMemoryMiB = 16

// CheckSocketPath returns an error for a path that no Unix socket can have.
func CheckSocketPath(path string) error {
	if len(path) > MaxSocketPath {
		return fmt.Errorf("control socket path %s has %d bytes, but a Unix socket path may have at most %d: choose a shorter one with --socket", path, len(path), MaxSocketPath)
	}
	return nil
}

// WrongURL ends a sentence about a key or variable that must be an HTTP address; "" if it is one, or empty.
func WrongURL(address string) string {
	if u, err := url.Parse(address); address != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Sprintf("must be an http or https address, not %q", address)
	}
	return ""
}

// WrongOrigin ends a sentence about a key or variable that must be an origin of PubNub; "" if it is one, or empty.
func WrongOrigin(origin string) string {
	_, _, err := net.SplitHostPort(origin)
	if strings.ContainsAny(origin, "/ ") || err != nil && strings.Contains(origin, ":") {
		return fmt.Sprintf("must be host:port without a scheme, not %q", origin)
	}
	return ""
}

// UnixListen returns the path in an address for monitoring such as unix:/run/blocksd/metrics.sock.
func UnixListen(address string) (path string, ok bool) { return strings.CutPrefix(address, "unix:") }

// WrongListen ends a sentence about an address for monitoring, which nobody outside of this machine may reach; "" if it is
// right, or empty.
func WrongListen(address string) string {
	if address == "" {
		return ""
	}
	if path, ok := UnixListen(address); ok {
		if !filepath.IsAbs(path) || len(path) > MaxSocketPath {
			return fmt.Sprintf("must have an absolute path of at most %d bytes behind unix:, not %q", MaxSocketPath, path)
		}
		return ""
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Sprintf("must be a loopback address such as 127.0.0.1:9464, or unix:PATH, not %q", address)
	}
	return ""
}

// validate checks what depends on more than the type of one key.
func validate(c Config) Problems {
	var ps Problems
	add := func(key, format string, args ...any) {
		ps = append(ps, Problem{Message: fmt.Sprintf(format, args...), key: key})
	}
	entry := func(i int, key string) string { return fmt.Sprintf("handlers[%d].%s", i, key) }

	if c.StateDir == "" {
		add("state_dir", `key "state_dir" must not be empty`)
	}
	if c.Socket == "" {
		add("socket", `key "socket" must not be empty`)
	} else if err := CheckSocketPath(c.Socket); err != nil {
		add("socket", "%s", err)
	}
	for _, address := range []struct{ key, value string }{{"network.cdm_url", c.Network.CDMURL}, {"network.backend_url", c.Network.BackendURL}, {"telemetry.traces", c.Telemetry.Traces}} {
		if why := WrongURL(address.value); why != "" {
			add(address.key, "key %q %s", address.key, why)
		}
	}
	if why := WrongOrigin(c.Network.PubNubOrigin); why != "" {
		add("network.pubnub_origin", `key "network.pubnub_origin" %s`, why)
	}
	seen := map[string]bool{}
	for i, h := range c.Handlers {
		if seen[h.Name] {
			add(entry(i, "name"), "handlers[%d] has the name %q of an earlier handler: names must be unique", i, h.Name)
		}
		seen[h.Name] = true
		if h.Name != filepath.Base(h.Name) {
			add(entry(i, "name"), "handlers[%d] has the name %q, which must not contain a slash", i, h.Name)
		}
		if b, err := hex.DecodeString(h.SHA256); h.SHA256 != "" && (err != nil || len(b) != 32) {
			add(entry(i, "sha256"), "handlers[%d].sha256 must be 64 hexadecimal digits, not %q", i, h.SHA256)
		}
	}
	for i, h := range c.Handlers {
		for _, list := range []struct {
			key   string
			paths []string
		}{{"read_paths", h.ReadPaths}, {"write_paths", h.WritePaths}} {
			for _, path := range list.paths {
				if !filepath.IsAbs(path) {
					add(entry(i, list.key), "handlers[%d].%s must hold absolute paths, not %q", i, list.key, path)
				}
			}
		}
	}
	if m := c.Isolation.MemoryMiB; m > 0 && m < minMemoryMiB {
		add("isolation.memory_mib", `key "isolation.memory_mib" must be 0, for no limit, or at least %d, not %d: no handler starts with less`, minMemoryMiB, m)
	}
	for i, h := range c.Handlers {
		if m := h.MemoryMiB; m != c.Isolation.MemoryMiB && m < minMemoryMiB {
			add(entry(i, "memory_mib"), `key "handlers[%d].memory_mib" must be at least %d, not %d: no handler starts with less`, i, minMemoryMiB, m)
		}
	}
	if why := WrongListen(c.Telemetry.Listen); why != "" {
		add("telemetry.listen", `key "telemetry.listen" %s`, why)
	}
	if _, _, err := c.Isolation.UserRange(); err != nil {
		add("isolation.users", `key "isolation.users" %v`, err)
	}
	if l := c.Isolation.Launcher; l != "" && !filepath.IsAbs(l) {
		add("isolation.launcher", `key "isolation.launcher" must be an absolute path, or empty, not %q`, l)
	}
	if g := c.Isolation.Cgroup; g != "auto" && g != "off" && !strings.HasPrefix(filepath.Clean(g), "/sys/fs/cgroup/") {
		add("isolation.cgroup", `key "isolation.cgroup" must be auto, off, or a path below /sys/fs/cgroup, not %q`, g)
	}
	for i, n := range c.Environment {
		if n == "" || strings.Contains(n, "=") {
			add("environment", "environment[%d] must be the name of a variable, not %q", i, n)
		} else if strings.HasPrefix(n, "BLOCKS_API_KEY") || n == "CREDENTIALS_DIRECTORY" {
			add("environment", "environment[%d] would pass the credential %s to handlers, which never need one: remove it", i, n)
		}
	}
	return ps
}

// UserRange is the first and last number of Users; both are 0 for none.
func (i Isolation) UserRange() (first, last uint32, err error) {
	if i.Users == "" {
		return 0, 0, nil
	}
	from, to, ok := strings.Cut(i.Users, "-")
	a, err1 := strconv.ParseUint(from, 10, 32)
	b, err2 := strconv.ParseUint(to, 10, 32)
	if !ok || err1 != nil || err2 != nil || a < 1000 || b < a || b >= 1<<31 {
		return 0, 0, fmt.Errorf("must be two numbers of at least 1000, like 60600-61183, not %q", i.Users)
	}
	return uint32(a), uint32(b), nil
}
