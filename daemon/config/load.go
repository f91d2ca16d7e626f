// Package config reads the daemon's configuration. Layers are merged with koanf, the stronger over the weaker: defaults,
// the file, environment variables, flags. Everything about a key is in the tags of its field in Config.
package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Sources are the layers above the defaults, from weakest to strongest.
type Sources struct {
	// File is the path of the configuration file, "" for none.
	File string
	// Environ holds KEY=value pairs, as os.Environ does.
	Environ []string
	// Flags maps dotted keys to values, as strings or typed.
	Flags map[string]any
}

// Load merges the layers and checks the result. The error is a Problems with everything that is wrong. Warnings are for
// the log: one sentence each, about what is ignored.
func Load(s Sources) (c Config, warnings []string, err error) {
	for name := range s.Flags {
		if _, ok := lookup(keys, name); !ok {
			return Config{}, nil, fmt.Errorf("flag of the unknown key %q", name) // a fault of the program
		}
	}
	var ps Problems
	k := koanf.New(".")
	load := func(layer koanf.Provider, parser koanf.Parser) {
		err := k.Load(layer, parser)
		var of Problems
		if err != nil && !errors.As(err, &of) {
			of = Problems{{Message: err.Error()}}
		}
		ps = append(ps, of...)
	}
	load(confmap.Provider(defaults(), "."), nil)
	if s.File != "" {
		load(file(s.File), yamlParser{s.File})
	}
	variables := environment{environ: s.Environ}
	load(variables.shared(), nil)
	load(variables.own(), nil)
	ps = append(ps, variables.problems...)
	flags, problems := parseFlags(s.Flags)
	ps = append(ps, problems...)
	load(confmap.Provider(flags, "."), nil)
	if len(ps) > 0 {
		return Config{}, variables.warnings, ps
	}
	load(confmap.Provider(inherited(k), "."), nil)
	// Without weakly typed conversions: each layer has converted its values to the types of the fields.
	conf := koanf.UnmarshalConf{Tag: "koanf", DecoderConfig: &mapstructure.DecoderConfig{Result: &c, TagName: "koanf", ErrorUnused: true}}
	if err := k.UnmarshalWithConf("", &c, conf); err != nil {
		return Config{}, variables.warnings, fmt.Errorf("read the configuration: %w", err)
	}
	if ps := validate(c); len(ps) > 0 {
		for i := range ps {
			if len(s.Flags) == 0 { // otherwise the value may come from a flag
				ps[i].File = s.File
			}
		}
		return Config{}, variables.warnings, ps
	}
	return c, append(variables.warnings, doubts(c)...), nil
}

// networkGrace is how long the network waits for the end of a task that it has canceled before it ends the task itself.
const networkGrace = 30 * time.Second

// doubts are what a valid configuration may not be meant to say.
func doubts(c Config) (warnings []string) {
	if c.CancelGrace >= networkGrace {
		warnings = append(warnings, fmt.Sprintf(`key "cancel_grace" is %s: the network ends a canceled task itself after %s, so its consumer may see two outcomes: choose less`, c.CancelGrace, networkGrace))
	}
	return warnings
}

// inherited is the layer of the lists whose entries leave out keys that they inherit from a table: its final values.
func inherited(k *koanf.Koanf) map[string]any {
	layer := map[string]any{}
	for _, list := range keys {
		entries, _ := k.Get(list.name).([]any)
		if list.kind != tables || len(entries) == 0 {
			continue
		}
		for _, e := range entries {
			m := e.(map[string]any)
			for _, sub := range list.keys {
				if _, given := m[sub.name]; !given && sub.inherits != "" {
					m[sub.name] = k.Get(sub.inherits)
				}
			}
		}
		layer[list.name] = entries
	}
	return layer
}

func defaults() map[string]any {
	m := map[string]any{}
	leaves("", keys, func(path string, k key) { m[path] = k.def })
	return m
}

func parseFlags(flags map[string]any) (layer map[string]any, ps Problems) {
	layer = map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		k, _ := lookup(keys, name)
		typed, why := k.parse(flags[name])
		if why != "" {
			ps = append(ps, Problem{Message: fmt.Sprintf("flag --%s %s", flagName(name), why)})
			continue
		}
		layer[name] = k.absolute(typed, workDir)
	}
	return layer, ps
}

// flagName is the command-line flag of a key. Only some keys have one.
func flagName(key string) string {
	if key == "plugins.dirs" {
		return "plugins"
	}
	return strings.ReplaceAll(key, "_", "-")
}

// Default is the configuration without file, environment and flags.
func Default() Config {
	c, _, err := Load(Sources{})
	if err != nil {
		panic("defaults are not valid: " + err.Error()) // tested
	}
	return c
}

// DefaultFile is the file that `blocksd run` reads without --config, if it exists.
const DefaultFile = "/etc/blocksd/blocksd.yaml"

// FindFile returns path, or DefaultFile if path is empty and that file exists.
func FindFile(path string) string {
	if path == "" {
		if _, err := os.Stat(DefaultFile); err == nil {
			return DefaultFile
		}
	}
	return path
}
