// Package config reads the daemon's configuration. Layers are merged with koanf, the stronger over the weaker: defaults,
// the file, environment variables, flags. Everything about a key is in the tags of its field in Config.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
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
	// Fragments is a directory of further files, *.yaml, in the order of their names; it need not exist. "" for none.
	Fragments string
	// Environ holds KEY=value pairs, as os.Environ does.
	Environ []string
	// Flags maps dotted keys to values, as strings or typed.
	Flags map[string]any
}

// Again are the sources for a reload: a default file that did not exist at first may exist by now.
func (s Sources) Again() Sources {
	if s.File == "" && s.Fragments == FragmentsOf("") {
		s.File = FindFile("")
	}
	return s
}

// Load merges the layers and checks the result. The error is a Problems with everything that is wrong. Warnings are for
// the log: one sentence each, about what is ignored.
func Load(s Sources) (c Config, warnings []string, err error) {
	l, err := Read(s)
	return l.Config, l.Warnings, err
}

// Loaded is a configuration with what is known of how it came about.
type Loaded struct {
	Config   Config
	Warnings []string
	origins  origins
}

// Read is Load with the origin of each value. With Problems the configuration is that of the values that are right, for whoever
// looks for more of them.
func Read(s Sources) (Loaded, error) {
	for name := range s.Flags {
		if _, ok := lookup(keys, name); !ok {
			return Loaded{}, fmt.Errorf("flag of the unknown key %q", name) // a fault of the program
		}
	}
	var ps Problems
	k := koanf.New(".")
	origins := newOrigins()
	load := func(layer koanf.Provider, parser koanf.Parser, origin func(path string) Origin) {
		one := koanf.New(".")
		err := one.Load(layer, parser)
		if err == nil {
			origins.note(one, origin)
			err = k.Merge(one)
		}
		var of Problems
		if err != nil && !errors.As(err, &of) {
			of = Problems{{Message: err.Error()}}
		}
		ps = append(ps, of...)
	}
	load(confmap.Provider(defaults(), "."), nil, func(string) Origin { return Origin{Source: SourceDefault} })
	files, warnings, problems := s.files()
	ps = append(ps, problems...)
	for _, path := range files {
		p := yamlParser{path: path, lists: origins.lists, lines: map[string]int{}, problems: &ps}
		load(file(path), p, func(key string) Origin { return inFile(path, p.lines[key]) })
	}
	variables := environment{environ: s.Environ, warnings: warnings, names: map[string]string{}}
	fromVariable := func(key string) Origin { return Origin{SourceVariable, variables.names[key]} }
	load(variables.shared(), nil, fromVariable)
	load(variables.own(), nil, fromVariable)
	ps = append(ps, variables.problems...)
	flags, problems := parseFlags(s.Flags)
	ps = append(ps, problems...)
	load(confmap.Provider(flags, "."), nil, func(key string) Origin { return Origin{SourceFlag, "--" + flagName(key)} })
	l := Loaded{Warnings: variables.warnings, origins: origins}
	err := k.Load(confmap.Provider(inherited(k), "."), nil)
	// Without weakly typed conversions: each layer has converted its values to the types of the fields.
	var c Config
	conf := koanf.UnmarshalConf{Tag: "koanf", DecoderConfig: &mapstructure.DecoderConfig{Result: &c, TagName: "koanf", ErrorUnused: true}}
	if err == nil {
		err = k.UnmarshalWithConf("", &c, conf)
	}
	switch {
	case err != nil && len(ps) > 0: // it may be what follows from them
		return l, ps
	case err != nil:
		return l, fmt.Errorf("read the configuration: %w", err)
	}
	l.Config = c
	for _, p := range validate(c) {
		if origins.locate(&p); !ps.Tell(p) {
			ps = append(ps, p)
		}
	}
	if len(ps) > 0 {
		ps.sort()
		return l, ps
	}
	l.Warnings = append(l.Warnings, doubts(c)...)
	return l, nil
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
	switch key {
	case "plugins.dirs":
		return "plugins"
	case "projects":
		return "project"
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

// Defaults that the help of commands names. They are in the tags of Config as well; reading those for each command would take
// longer than most commands.
const (
	DefaultSocket = "/run/blocksd/blocksd.sock"
	DefaultUsers  = "60600-61183"
)

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

// FragmentsOf is the directory of further files that belongs to the configuration file at path, or to DefaultFile when
// path is empty.
func FragmentsOf(path string) string {
	return filepath.Join(filepath.Dir(cmp.Or(path, DefaultFile)), "conf.d")
}
