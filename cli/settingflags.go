package cli

import (
	"github.com/spf13/pflag"

	"github.com/blocksd/blocksd/daemon/config"
)

// settingFlags are --config and the flags that set a key of the configuration.
type settingFlags struct {
	set  *pflag.FlagSet
	file string
	// given returns, for each key with a flag, its value and whether the flag was given.
	given map[string]func() (value any, ok bool)
}

func newSettingFlags(set *pflag.FlagSet) *settingFlags {
	s := &settingFlags{set: set, given: map[string]func() (any, bool){}}
	set.StringVar(&s.file, "config", "", "configuration file (default "+config.DefaultFile+" if it exists)")
	return s
}

func (s *settingFlags) text(key, flag, usage string) {
	value := s.set.String(flag, "", usage)
	s.given[key] = func() (any, bool) { return *value, s.set.Changed(flag) }
}

// plugins adds --plugins, which may be repeated.
func (s *settingFlags) plugins() {
	dirs := s.set.StringArray("plugins", nil, "directory of handler programs; may be repeated")
	s.given["plugins.dirs"] = func() (any, bool) { return *dirs, s.set.Changed("plugins") }
}

// projects adds --project, which may be repeated.
func (s *settingFlags) projects() {
	dirs := s.set.StringArray("project", nil, "directory of a project with its agent-card.json; may be repeated")
	s.given["projects"] = func() (any, bool) { return *dirs, s.set.Changed("project") }
}

// sources are the layers of the configuration once the command line is parsed.
func (s *settingFlags) sources(environ []string) config.Sources {
	flags := map[string]any{}
	for key, given := range s.given {
		if value, ok := given(); ok {
			flags[key] = value
		}
	}
	return config.Sources{File: config.FindFile(s.file), Fragments: config.FragmentsOf(s.file), Environ: environ, Flags: flags}
}
