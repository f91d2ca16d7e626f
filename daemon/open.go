package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// undo takes back steps, the last one first.
type undo []func() error

func (u *undo) add(step func() error) { *u = append(*u, step) }

func (u undo) run() error {
	var errs []error
	for _, step := range slices.Backward(u) {
		errs = append(errs, step())
	}
	return errors.Join(errs...)
}

// openJournal opens the journal in the state directory. One that cannot be used keeps the daemon from starting, because
// what is in it is owed to somebody: an operator must decide.
func openJournal(cfg Config, committed func(time.Duration)) (*journal.Journal, error) {
	dir := cfg.Settings.StateDir
	secret, err := journal.Secret(dir, cfg.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return nil, err
	}
	return journal.Open(journal.Config{Dir: dir, Secret: secret, Log: cfg.Log, OnCommit: committed})
}

func (d *Daemon) newFleet(c config.Config) (*supervisor.Fleet, error) {
	users, err := openUsers(d.cfg)
	if err != nil {
		return nil, err
	}
	output := d.cfg.Log
	if d.cfg.Quiet {
		output = slog.New(slog.DiscardHandler)
	}
	return supervisor.New(supervisor.Config{
		Log: d.cfg.Log, OutputLog: output, Events: d.events, RuntimeDir: filepath.Join(c.StateDir, "run"),
		Shim: launch.Self(), Cgroup: c.Isolation.Cgroup, Closed: closedFiles(d.cfg), Sockets: []string{c.Socket}, Users: users, Launcher: launcher(d.cfg),
		OnCards: d.inbox.describe, OnUsed: d.inbox.use,
	})
}

// usersFile in the state directory says which user each handler has.
const usersFile = "users"

// openUsers is nil when handlers get no users of their own.
func openUsers(cfg Config) (*launch.Users, error) {
	first, last, err := cfg.Settings.Isolation.UserRange()
	if err != nil || last == 0 || !cfg.OwnUsers || os.Geteuid() != 0 && launcher(cfg) == "" {
		return nil, err
	}
	return launch.OpenUsers(filepath.Join(cfg.Settings.StateDir, usersFile), first, last)
}
