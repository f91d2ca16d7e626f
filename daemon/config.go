package daemon

import (
	"log/slog"
	"os"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/runners"
	"github.com/blocksd/blocksd/network/card"
)

// Config of a Daemon. Settings, Key and Log are required.
type Config struct {
	Settings config.Config
	// Key returns the API key of an agent with this key file ("" for none of its own).
	Key     func(keyFile string) (string, error)
	Version string
	Log     *slog.Logger
	// Quiet keeps events and the output of handlers out of Log: whoever runs the daemon shows them in another way.
	Quiet bool
	// Getenv reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; nil when systemd is not to be told anything.
	Getenv func(string) string
	// Settle is how long the plugins directories must be quiet before a change is looked at; 500 ms when zero.
	Settle time.Duration
	// WarnUntrusted takes handlers from directories that others may write too, and only warns of them.
	WarnUntrusted bool
	// KeyExpires says when the key of an agent with this key file ends, where the network does not say; zero for unknown. It may
	// be nil.
	KeyExpires func(keyFile string) time.Time
	// KeyLook is how often the network is asked whether it still takes the keys; 55 s when zero.
	KeyLook time.Duration
	// Reload reads the configuration again; nil when it cannot change. Loaded is what it has returned the last time, or
	// what Settings come from.
	Reload func() (config.Loaded, error)
	Loaded config.Loaded
	// Level is that of Log; nil when it cannot be changed.
	Level *slog.LevelVar
	// OwnUsers gives each handler a user of its own, where the daemon is root or has a launcher.
	OwnUsers bool
	// OnAgent is called before an agent is started; an error keeps it from being served.
	OnAgent func(card.Card) error
}

// getenv is Getenv, or one that knows no variable.
func (c Config) getenv() func(string) string {
	if c.Getenv == nil {
		return func(string) string { return "" }
	}
	return c.Getenv
}

// runnersOf are the runners for projects, from which every handler may read and no handler may write.
func runnersOf(cfg Config) runners.Runners {
	return runners.For(cfg.Settings.StateDir, cfg.Getenv("CACHE_DIRECTORY"))
}

// launcher is the socket of the one that starts handlers as other users, "" when there is none to look for.
func launcher(cfg Config) string {
	if !cfg.OwnUsers || os.Geteuid() == 0 {
		return ""
	}
	return cfg.Settings.Isolation.Launcher
}

// closedFiles are the files of the daemon that no handler may open.
func closedFiles(cfg Config) []string {
	c := cfg.Settings
	closed := []string{c.StateDir, c.Network.APIKeyFile, cfg.Getenv("CREDENTIALS_DIRECTORY"), runnersOf(cfg).Dir}
	for _, a := range c.Agents {
		closed = append(closed, a.KeyFile)
	}
	return closed
}
