package plug

import (
	"log/slog"
	"os"

	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/logpump"
)

// MaxMessage limits one gRPC message in either direction, in bytes.
const MaxMessage = 16 << 20

// Config of a connection.
type Config struct {
	Handler string // its name, for logs and texts
	Path    string
	// Program is what is executed, "Path" open; nil for whatever is at Path. Whoever opened it closes it after the start.
	Program *os.File
	Argv0   string // the program's name as it sees it itself; "" is Path
	Args    []string
	Dir     string // working directory, "" is the root directory
	// Interpreter: Path is what runs the files of the project in Dir.
	Interpreter bool
	// Needed are files and directories that it reads, although they may be below closed ones.
	Needed []string
	// Environment is what the process sees in addition to what the protocol needs.
	Environment []string
	Spawner     *launch.Spawner
	Dirs        *launch.SocketDirs
	Log         *slog.Logger
	OutputLog   *slog.Logger    // gets what the process writes; nil is Log
	Buffer      *logpump.Buffer // keeps what the process writes; nil keeps nothing but the last lines
	Timeouts    Timeouts
	// Limits of the process, kept as far as Machine can; nil keeps none but the process group.
	Limits  launch.Limits
	Machine *launch.Machine
	// MTLS encrypts the connection with certificates made for it. Without it SO_PEERCRED says who is at the other end, which
	// is enough on one machine.
	MTLS bool
	// MaxArtifactBytes bounds one artifact; wire.MaxArtifactBytes, the most that the network takes, when zero.
	MaxArtifactBytes int64
	// Spool counts the unfinished artifacts of all processes of the handler; nil counts those of this one.
	Spool *Spool
	// OnAnotherProcess reports whether a task runs on another process; nil means none does.
	OnAnotherProcess func(taskID string) bool
}

func (c Config) outputLog() *slog.Logger {
	if c.OutputLog != nil {
		return c.OutputLog
	}
	return c.Log
}

// Description is what a handler says about itself.
type Description struct {
	Name, Version, SDK string
	Cards              [][]byte // agent cards as JSON, unchecked
	// Described is false when the handler does not implement Describe.
	Described bool
	// Cancel: it understands CancelTask. Idempotent: a task that published nothing may be repeated.
	Cancel, Idempotent bool
}
