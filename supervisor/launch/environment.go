package launch

import (
	"slices"
	"strings"
)

// passed are the variables of the daemon that every handler gets. PATH is among them because even starting a helper
// program fails without it.
var passed = []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// Environment picks from the daemon's environment what a handler may see: a fixed list and the names in extra. Names of
// the daemon's own settings and of the network's credentials are never handed on, even when extra lists them.
func Environment(daemon, extra []string) []string {
	var out []string
	for _, kv := range daemon {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || Secret(name) {
			continue
		}
		if slices.Contains(passed, name) || slices.Contains(extra, name) {
			out = append(out, kv)
		}
	}
	return out
}

// Secret reports whether a variable never reaches a handler from the daemon's environment.
func Secret(name string) bool {
	return name == "BLOCKS_API_KEY" || name == "CREDENTIALS_DIRECTORY" || name == "NOTIFY_SOCKET" || name == "LISTEN_FDS" ||
		strings.HasPrefix(name, "BLOCKSD_") || strings.HasPrefix(name, "WATCHDOG_")
}

// Merge adds variables that are not there yet.
func Merge(environment, more []string) []string {
	out := slices.Clone(environment)
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(out, func(have string) bool { return strings.HasPrefix(have, name+"=") }) {
			out = append(out, kv)
		}
	}
	return out
}
