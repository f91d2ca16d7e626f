package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"

	"github.com/blocksd/blocksd/internal/nearest"
)

// prefix of our own variables; a double underscore separates levels: BLOCKSD_LOG__LEVEL is log.level.
const prefix = "BLOCKSD_"

// foreign variables begin with our prefix but are for clients, tests and handlers. The daemon's environment may be the
// whole env file of a sandbox.
func foreign(name string) bool {
	return name == "BLOCKSD_SOCKET" || strings.HasPrefix(name, "BLOCKSD_SANDBOX_") || strings.HasPrefix(name, "BLOCKSD_HOST_")
}

// levelNames are spellings of log levels that SDKs accept.
var levelNames = map[string]string{"warning": "warn", "trace": "debug", "critical": "error", "fatal": "error"}

// sharedKeys maps each second variable to the path of its key.
var sharedKeys = func() map[string]string {
	m := map[string]string{}
	leaves("", keys, func(path string, k key) {
		if k.env != "" {
			m[k.env] = path
		}
	})
	return m
}()

// environment turns variables into two layers, and collects what is wrong with them.
type environment struct {
	environ  []string
	names    map[string]string // of the variable that sets a key, by the key's path
	warnings []string
	problems Problems
}

// shared is the layer of the variables that the Blocks SDKs read too. A value that does not fit is only a warning,
// because the variable may be meant for an SDK.
func (e *environment) shared() koanf.Provider {
	return e.layer("", func(name, value string) (string, any) {
		path, ok := sharedKeys[name]
		if !ok || value == "" { // empty counts as unset, as in the SDKs
			return "", nil
		}
		if name == "LOG_LEVEL" {
			value = strings.ToLower(value)
			value = cmp.Or(levelNames[value], value)
		}
		k, _ := lookup(keys, path)
		typed, why := k.parse(value)
		if why != "" {
			e.warnings = append(e.warnings, fmt.Sprintf("variable %s is ignored: it %s", name, why))
			return "", nil
		}
		e.names[path] = name
		return path, k.absolute(typed, workDir)
	})
}

// own is the layer of our variables. An unknown name is a warning, a value that does not fit a problem.
func (e *environment) own() koanf.Provider {
	return e.layer(prefix, func(name, value string) (string, any) {
		if _, shared := sharedKeys[name]; shared || foreign(name) {
			return "", nil
		}
		path := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "__", "."))
		k, ok := lookup(keys, path)
		if !ok || k.kind == table || k.kind == tables {
			e.warnings = append(e.warnings, fmt.Sprintf("variable %s is ignored: no key has this name%s", name, variableHint(name)))
			return "", nil
		}
		typed, why := k.parse(value)
		if why != "" {
			e.problems = append(e.problems, Problem{Message: fmt.Sprintf("variable %s %s", name, why)})
			return "", nil
		}
		e.names[path] = name
		return path, k.absolute(typed, workDir)
	})
}

func (e *environment) layer(prefix string, key func(name, value string) (string, any)) koanf.Provider {
	sorted := func() []string { // the order of an environment means nothing, so warnings are in the order of names
		return slices.SortedStableFunc(slices.Values(e.environ), func(a, b string) int {
			nameA, _, _ := strings.Cut(a, "=")
			nameB, _, _ := strings.Cut(b, "=")
			return strings.Compare(nameA, nameB)
		})
	}
	return env.Provider(".", env.Opt{Prefix: prefix, EnvironFunc: sorted, TransformFunc: key})
}

func variableHint(name string) string {
	var known []string
	for _, p := range paths() {
		known = append(known, prefix+strings.ToUpper(strings.ReplaceAll(p, ".", "__")))
	}
	return nearest.Hint(name, known)
}
