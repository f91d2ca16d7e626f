package supervisor

import (
	"cmp"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Timeouts are the deadlines of everything that waits for a handler process.
type Timeouts = plug.Timeouts

// Config of a fleet.
type Config struct {
	Log *slog.Logger
	// OutputLog gets what handlers write; nil is Log.
	OutputLog *slog.Logger
	// Events is the bus for what happens to the handlers; nil makes a private one.
	Events *event.Bus
	// RuntimeDir is a short private directory for sockets, created and swept here. When the path of a socket in it would
	// be too long, or when it is empty, a private directory below the system's temporary one is used.
	RuntimeDir string
	Handlers   []HandlerConfig
	// Environment names variables that handlers get in addition to the built-in list. They never get secrets.
	Environment []string
	Timeouts    Timeouts
	// Shim is the program that limits itself and turns into the handler; it must call launch.Shim first. "" for none.
	Shim string
	// Cgroup is where handlers get control groups of their own: see launch.OpenCgroups; "" is off.
	Cgroup string
	// Closed are files and directories that no handler may open, beside its own program and sockets. Sockets
	// are hidden where that is possible.
	Closed, Sockets []string
	// Users gives handlers users of their own, where the daemon is root or has a launcher; nil does not. Launcher is the socket
	// of that, "" for none.
	Users    *launch.Users
	Launcher string
	// Hold is how long a task waits for a process while one is expected; as long as a start may take when zero.
	Hold time.Duration
	// MaxArtifactBytes bounds one artifact of a handler; wire.MaxArtifactBytes, the most that the network takes, when zero.
	MaxArtifactBytes int64
	Now              func() time.Time // nil is time.Now
	Jitter           func() float64   // in [0,1); nil is random
	// OnCards is called once per generation of a handler, when it has described itself: of the first before it gets
	// tasks, of a later one when it takes over.
	OnCards func(handler string, cards []card.Card)
	// OnUsed is called when a content of a handler has got ready, and takes its tasks.
	OnUsed func(handler, content string)
}

// HandlerConfig is one handler.
type HandlerConfig struct {
	Name string
	// Path of its file, absolute; Program is what is executed instead, a copy of it, "" for the file itself.
	Path, Program string
	// Interpreter is executed instead of the file, "" when the file is a program; Args then name the file.
	Interpreter string
	Args        []string
	// Needed are files and directories of the daemon that it may read.
	Needed []string
	// Variables are variables of this handler alone, KEY=value. One that every handler gets counts more.
	Variables []string
	Dir       string // working directory; "" is the root directory
	// Instances is the number of processes; 1 when zero.
	Instances int
	// Content is the checksum of what is executed, "" when it is unknown; if it changes there is a new generation.
	Content string
	// SHA256 pins what is executed, in hexadecimal; "" takes whatever is there.
	SHA256  string
	Restart unit.Policy
	// Limits of each process, as far as the machine can keep them; MTLS encrypts the connection to it.
	Limits launch.Limits
	MTLS   bool

	// Concurrency is how many tasks it takes at once, ProcessConcurrency how many each of its processes; 0: no limit. A
	// task beyond the limit waits for its turn.
	Concurrency, ProcessConcurrency int
	// RecycleTasks replaces a process that has been given so many tasks, once its replacement is ready; 0: never.
	RecycleTasks int
	// Idempotent: a task that crashed a process and has published nothing is tried on another one, as if the handler had
	// said that it may be.
	Idempotent bool

	// Environment, Timeouts and MaxArtifactBytes are as in Config, for this handler alone; those of Config when they are
	// nil or zero.
	Environment      []string
	Timeouts         Timeouts
	MaxArtifactBytes int64
}

// startTime is how long the start of a process may take.
func (c HandlerConfig) startTime(fleet Timeouts) time.Duration {
	t := cmp.Or(c.Timeouts, fleet).Filled()
	return t.Handshake + t.Describe
}

func (c HandlerConfig) program() string {
	if c.Program != "" {
		return c.Program
	}
	return c.Path
}

// check returns an error for handlers that cannot be run together.
func check(handlers []HandlerConfig) error {
	paths := map[string]string{}
	for _, c := range handlers {
		other, twice := paths[c.Name]
		switch {
		case c.Name == "":
			return fmt.Errorf("handler with path %q has no name: give it one", c.Path)
		case !filepath.IsAbs(c.Path):
			return fmt.Errorf("path %q of handler %s is not absolute: write the whole path", c.Path, c.Name)
		case twice:
			return fmt.Errorf("two handlers are called %s, at %s and %s: rename one", c.Name, other, c.Path)
		}
		paths[c.Name] = c.Path
	}
	return nil
}
