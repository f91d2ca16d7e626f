// Package config reads the daemon's configuration: defaults, then the file, then the environment, then flags. Every key
// stands in one table (keys.go), from which the checks, the defaults and the annotated sample file follow.
package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Config is a complete, valid configuration. The meaning of each key is in keys.go and in the sample file.
type Config struct {
	StateDir    string        `koanf:"state_dir"`
	Socket      string        `koanf:"socket"`
	Drain       time.Duration `koanf:"drain"`
	CancelGrace time.Duration `koanf:"cancel_grace"`
	Environment []string      `koanf:"environment"`
	Log         Log           `koanf:"log"`
	Network     Network       `koanf:"network"`
	Plugins     Plugins       `koanf:"plugins"`
	Agents      []Agent       `koanf:"agents"`
	Handlers    []Handler     `koanf:"handlers"`
	Isolation   Isolation     `koanf:"isolation"`
	Limits      Limits        `koanf:"limits"`
	Timeouts    Timeouts      `koanf:"timeouts"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `koanf:"level"`
	Format string `koanf:"format"`
}

// Network says where the Blocks Network is and where the API key comes from.
type Network struct {
	CDMURL       string `koanf:"cdm_url"`
	BackendURL   string `koanf:"backend_url"`
	PubNubOrigin string `koanf:"pubnub_origin"`
	APIKeyFile   string `koanf:"api_key_file"`
}

// Plugins says where handler binaries are found.
type Plugins struct {
	Dirs             []string `koanf:"dirs"`
	Autoload         bool     `koanf:"autoload"`
	RequireChecksums bool     `koanf:"require_checksums"`
}

// Agent is one agent that is served whatever cards stand beside the handlers.
type Agent struct {
	Card        string `koanf:"card"`
	Handler     string `koanf:"handler"`
	KeyFile     string `koanf:"key_file"`
	Concurrency int    `koanf:"concurrency"`
}

// Handler is one handler program.
type Handler struct {
	Name      string   `koanf:"name"`
	Path      string   `koanf:"path"`
	Args      []string `koanf:"args"`
	Dir       string   `koanf:"dir"`
	Instances int      `koanf:"instances"`
	SHA256    string   `koanf:"sha256"`

	Concurrency        int           `koanf:"concurrency"`
	ProcessConcurrency int           `koanf:"process_concurrency"`
	Idempotent         bool          `koanf:"idempotent"`
	IdleTimeout        time.Duration `koanf:"idle_timeout"`
	RecycleTasks       int           `koanf:"recycle_tasks"`
	RecycleAge         time.Duration `koanf:"recycle_age"`
	MaxRestarts        int           `koanf:"max_restarts"`
	RestartWindow      time.Duration `koanf:"restart_window"`
	RestartDelay       time.Duration `koanf:"restart_delay"`

	MemoryMiB  int      `koanf:"memory_mib"`
	Processes  int      `koanf:"processes"`
	CPUPercent int      `koanf:"cpu_percent"`
	Files      int      `koanf:"files"`
	ReadPaths  []string `koanf:"read_paths"`
	WritePaths []string `koanf:"write_paths"`
	User       string   `koanf:"user"`
	MTLS       bool     `koanf:"mtls"`
	Strict     bool     `koanf:"strict"`
}

// Isolation is what each process of a handler may use, unless its own entry says otherwise.
type Isolation struct {
	MemoryMiB  int    `koanf:"memory_mib"`
	Processes  int    `koanf:"processes"`
	CPUPercent int    `koanf:"cpu_percent"`
	Files      int    `koanf:"files"`
	MTLS       bool   `koanf:"mtls"`
	Strict     bool   `koanf:"strict"`
	Cgroup     string `koanf:"cgroup"`
}

// Limits of the whole daemon.
type Limits struct {
	Tasks         int `koanf:"tasks"`
	InlineBytes   int `koanf:"inline_bytes"`
	ArtifactBytes int `koanf:"artifact_bytes"`
}

// Timeouts of single steps.
type Timeouts struct {
	HandlerHandshake      time.Duration `koanf:"handler_handshake"`
	HandlerDescribe       time.Duration `koanf:"handler_describe"`
	HandlerHealth         time.Duration `koanf:"handler_health"`
	HandlerHealthInterval time.Duration `koanf:"handler_health_interval"`
	HandlerStop           time.Duration `koanf:"handler_stop"`
}

// Sources are the layers above the defaults, from weakest to strongest.
type Sources struct {
	// File is the path of the configuration file, "" for none.
	File string
	// Environ holds KEY=value pairs, as os.Environ does.
	Environ []string
	// Flags maps dotted keys to values as text or as their own type.
	Flags map[string]any
}

// Load merges the layers and checks the result. The error is a Problems with everything that is wrong. Warnings are for
// the log: one sentence each, about things that are ignored.
func Load(s Sources) (c Config, warnings []string, err error) {
	var ps Problems
	k := koanf.New(".")
	load := func(layer map[string]any) {
		if err := k.Load(confmap.Provider(layer, "."), nil); err != nil { // cannot fail: a map is merged into a map
			ps = append(ps, Problem{Message: fmt.Sprintf("merge the configuration: %s", err)})
		}
	}
	load(defaults(keys))
	if s.File != "" {
		layer, problems := readFile(s.File)
		ps = append(ps, problems...)
		load(layer)
	}
	layer, warnings, problems := readEnvironment(s.Environ)
	ps = append(ps, problems...)
	load(layer)
	for key, v := range s.Flags {
		k, ok := lookup(keys, key)
		if !ok {
			return Config{}, nil, fmt.Errorf("flag of the unknown key %q", key) // a mistake in the program
		}
		typed, why := k.parse(v)
		if why != "" {
			ps = append(ps, Problem{Message: fmt.Sprintf("flag --%s %s", flagName(key), why)})
			continue
		}
		load(map[string]any{key: typed})
	}
	if len(ps) > 0 {
		return Config{}, warnings, ps
	}
	// No weakly typed conversions: every layer has been brought to the types of the table.
	conf := koanf.UnmarshalConf{Tag: "koanf", DecoderConfig: &mapstructure.DecoderConfig{Result: &c, TagName: "koanf", ErrorUnused: true}}
	if err := k.UnmarshalWithConf("", &c, conf); err != nil {
		return Config{}, warnings, fmt.Errorf("read the configuration: %w", err)
	}
	for _, path := range append([]*string{&c.StateDir, &c.Socket}, pointers(c.Plugins.Dirs)...) {
		// Handlers run in other directories than the daemon. An empty path stays to be refused.
		if abs, err := filepath.Abs(*path); err == nil && *path != "" {
			*path = abs
		}
	}
	for i := range c.Handlers {
		if c.Handlers[i].Instances == 0 {
			c.Handlers[i].Instances = 1
		}
	}
	if ps := validate(c); len(ps) > 0 {
		for i := range ps {
			if len(s.Flags) == 0 { // else the value may be a flag's
				ps[i].File = s.File
			}
		}
		return Config{}, warnings, ps
	}
	return c, warnings, nil
}

func pointers(l []string) []*string {
	out := make([]*string, len(l))
	for i := range l {
		out[i] = &l[i]
	}
	return out
}

// Default is the configuration without file, environment and flags.
func Default() Config {
	c, _, err := Load(Sources{})
	if err != nil {
		panic("defaults are not valid: " + err.Error()) // tested
	}
	return c
}

// flagName is the command-line flag of a key. Only some keys have one.
func flagName(key string) string {
	if key == "plugins.dirs" {
		return "plugins"
	}
	return strings.ReplaceAll(key, "_", "-")
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// File and Line say where; Line is 0 when it is not in one place.
	File string
	Line int
	// Message is one sentence.
	Message string
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Message
	case p.Line == 0:
		return fmt.Sprintf("configuration file %s: %s", p.File, p.Message)
	}
	return fmt.Sprintf("configuration file %s, line %d: %s", p.File, p.Line, p.Message)
}

// Problems is everything that is wrong with a configuration.
type Problems []Problem

func (p Problems) Error() string {
	texts := make([]string, len(p))
	for i, one := range p {
		texts[i] = one.String()
	}
	return strings.Join(texts, "; ")
}

// DefaultFile is read by `blocksd run` without --config, if it exists.
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
