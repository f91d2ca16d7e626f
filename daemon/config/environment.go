package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/knadh/koanf/maps"

	"github.com/blocksd/blocksd/internal/nearest"
)

// prefix of our own variables; a double underscore separates levels: BLOCKSD_LOG__LEVEL is log.level.
const prefix = "BLOCKSD_"

// sharedVariables are those of the Blocks SDKs, and ours with a short name. They are weaker than the BLOCKSD_ variable
// of the same key.
var sharedVariables = []struct{ name, key string }{
	{"LOG_LEVEL", "log.level"},
	{"BLOCKS_CDM_URL", "network.cdm_url"},
	{"BLOCKS_BACKEND_URL", "network.backend_url"},
	{"BLOCKSD_PUBNUB_ORIGIN", "network.pubnub_origin"},
	{"ARTIFACT_INLINE_LIMIT_BYTES", "limits.inline_bytes"},
}

// foreign variables begin with our prefix but are for clients, tests and handlers. A sandbox's whole env file may be
// the daemon's environment.
func foreign(name string) bool {
	return name == "BLOCKSD_SOCKET" || strings.HasPrefix(name, "BLOCKSD_SANDBOX_") || strings.HasPrefix(name, "BLOCKSD_HOST_")
}

// levelNames are spellings of log levels that SDKs accept.
var levelNames = map[string]string{"warning": "warn", "trace": "debug", "critical": "error", "fatal": "error"}

// readEnvironment turns variables into a layer. An unknown BLOCKSD_ variable is a warning, a value that does not fit a
// known one a problem; a value of an SDK's variable that does not fit is a warning, for it is not ours to refuse.
func readEnvironment(environ []string) (layer map[string]any, warnings []string, ps Problems) {
	values := map[string]string{}
	var own []string
	for _, kv := range environ {
		name, v, ok := strings.Cut(kv, "=")
		if !ok {
			continue
		}
		values[name] = v
		if strings.HasPrefix(name, prefix) && !foreign(name) {
			own = append(own, name)
		}
	}
	slices.Sort(own) // the order of the environment means nothing
	flat := map[string]any{}
	for _, s := range sharedVariables {
		v := values[s.name]
		if v == "" { // an empty value counts as unset, as in the SDKs
			continue
		}
		if s.key == "log.level" {
			v = strings.ToLower(v)
			if n, ok := levelNames[v]; ok {
				v = n
			}
		}
		k, _ := lookup(keys, s.key)
		typed, why := k.parse(v)
		if why != "" {
			warnings = append(warnings, fmt.Sprintf("variable %s is ignored: it %s", s.name, why))
			continue
		}
		flat[s.key] = typed
	}
	for _, name := range own {
		if name == "BLOCKSD_PUBNUB_ORIGIN" {
			continue
		}
		path := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "__", "."))
		k, ok := lookup(keys, path)
		if !ok || k.kind == table || k.kind == tables {
			warnings = append(warnings, fmt.Sprintf("variable %s is ignored: no key has this name%s", name, variableHint(name)))
			continue
		}
		typed, why := k.parse(values[name])
		if why != "" {
			ps = append(ps, Problem{Message: fmt.Sprintf("variable %s %s", name, why)})
			continue
		}
		flat[path] = typed
	}
	return maps.Unflatten(flat, "."), warnings, ps
}

func variableHint(name string) string {
	var known []string
	for _, p := range paths("", keys) {
		known = append(known, prefix+strings.ToUpper(strings.ReplaceAll(p, ".", "__")))
	}
	return nearest.Hint(name, known)
}
