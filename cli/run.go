package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon"
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/logging"
)

func newRun(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "run", Short: "Serve agents on the Blocks Network until asked to stop", Args: argsOfUse,
		Long: "Serve agents on the Blocks Network until asked to stop. The first SIGTERM or SIGINT drains, the second cancels all tasks,\nthe third ends the process.",
	}
	flags := newSettingFlags(cmd.Flags())
	flags.plugins()
	flags.projects()
	flags.text("state_dir", "state-dir", "directory of everything that must survive a restart")
	flags.text("socket", "socket", "Unix socket of the control API")
	flags.text("drain", "drain", "how long tasks may continue after the daemon was asked to stop")
	flags.text("cancel_grace", "cancel-grace", "how long a handler may take to end a canceled task")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context(), flags.sources(a.Env)) }
	return cmd
}

func (a *app) run(ctx context.Context, sources config.Sources) error {
	defer surviveBrokenPipes()()
	if err := hideProcess(); err != nil {
		return err
	}
	loaded, err := config.Read(sources)
	if err != nil {
		return err
	}
	settings := loaded.Config
	keys := config.NewKeys(settings, a.getenv)
	key := keys.Key
	if err := checkKeys(settings, key); err != nil {
		return err
	}
	log, level, closeLog, err := a.newPumpedLog(settings.Log, a.Stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	defer stacksOnAbort(settings.StateDir, log, closeLog)()
	for _, w := range loaded.Warnings {
		log.Warn(w)
	}
	d, err := a.open(ctx, daemon.Config{
		Settings: settings, Loaded: loaded, Reload: func() (config.Loaded, error) { return config.Read(sources.Again()) },
		Key: key, KeyExpires: keys.Expires, Version: version(), Log: log, Level: level, Getenv: a.getenv, OwnUsers: true,
	})
	if d == nil || err != nil {
		return err
	}
	defer a.reloadOnHangup(ctx, d, log)()
	return a.serve(ctx, d)
}

// reloadOnHangup makes SIGHUP read the configuration again, until stop is called.
func (a *app) reloadOnHangup(ctx context.Context, d *daemon.Daemon, log *slog.Logger) (stop func()) {
	if a.Interrupts.Hangups == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	hangups := a.Interrupts.Hangups()
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-hangups:
			case <-ctx.Done():
				return
			}
			log.Info("SIGHUP: the configuration is read again")
			if _, err := d.Reload(ctx); err != nil && ctx.Err() == nil { // what is wrong with the configuration is logged as an event
				log.Error("the configuration could not be reloaded", "err", err)
			}
		}
	})
	return func() {
		cancel()
		watcher.Wait()
	}
}

// open makes a daemon. It returns none, and no error, when an interrupt ends its wait for room on the disk.
func (a *app) open(ctx context.Context, cfg daemon.Config) (*daemon.Daemon, error) {
	waiting, stop := a.interruptible(ctx)
	defer stop()
	d, err := daemon.Open(waiting, cfg)
	if d == nil && waiting.Err() != nil {
		return nil, nil
	}
	return d, err
}

// checkKeys refuses a daemon that could not serve a single agent, and a source that holds what is no key. An agent's own key
// file may appear later.
func checkKeys(c config.Config, key func(string) (string, error)) error {
	_, shared := key("")
	later := errors.Is(shared, config.ErrNoKey) || errors.Is(shared, fs.ErrNotExist)
	for _, agent := range c.Agents {
		if agent.KeyFile == "" {
			continue
		}
		if _, err := key(agent.KeyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return usage(err)
		}
		if later {
			shared = nil // the status of the other agents will show that their key is missing
		}
	}
	if shared != nil {
		return usage(shared)
	}
	return nil
}

// serve runs a daemon: the first interrupt drains it, the second cancels its tasks.
func (a *app) serve(ctx context.Context, d *daemon.Daemon) error {
	running, stop := a.interruptible(ctx)
	defer stop()
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-a.Interrupts.Second:
			d.CancelNow()
		case <-ended:
		}
	})
	err := d.Run(running)
	close(ended)
	watcher.Wait()
	return err
}

// newPumpedLog makes the log of a daemon, which a reader of out that stops reading must not block.
func (a *app) newPumpedLog(c config.Log, out io.Writer) (log *slog.Logger, level *slog.LevelVar, closeLog func(), err error) {
	pump := logging.NewPump(out)
	if log, level, err = a.newLog(c, out, pump); err != nil {
		pump.Close()
		return nil, nil, nil, usage(err)
	}
	pump.Lost = func(records int) { log.Warn("log records were dropped because nobody read the log", "count", records) }
	return log, level, func() { pump.Close() }, nil
}

// newLog makes a log that writes to w. out is where w leads: if it is a file, it may be the journal or a terminal, which
// decides the format.
func (a *app) newLog(c config.Log, out, w io.Writer) (*slog.Logger, *slog.LevelVar, error) {
	t := logging.Config{Writer: w, Level: c.Level, Format: c.Format}
	if f, ok := out.(*os.File); ok {
		t.Journal = logging.InJournal(f, a.getenv("JOURNAL_STREAM"))
		t.Terminal = logging.IsTerminal(f)
	}
	return logging.New(t)
}

// errNoKey is what commands say that ask the network themselves.
var errNoKey = errors.New("there is no API key: set BLOCKS_API_KEY, or log in with blocks login")
