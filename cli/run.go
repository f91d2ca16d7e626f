package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon"
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/logging"
)

func newRun(a *app) *cobra.Command {
	var file string
	var plugins []string
	values := map[string]*string{"state_dir": new(string), "socket": new(string), "drain": new(string), "cancel_grace": new(string)}
	cmd := &cobra.Command{
		Use: "run", Short: "Serve agents on the Blocks Network until asked to stop", Args: exactly(0, "blocksd run [--config FILE]"),
		Long: "Serve agents on the Blocks Network until asked to stop. The first SIGTERM or SIGINT drains, the second cancels all tasks,\nthe third ends the process.",
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file (default "+config.DefaultFile+" if it exists)")
	f.StringArrayVar(&plugins, "plugins", nil, "directory of handler programs; may be repeated")
	f.StringVar(values["state_dir"], "state-dir", "", "directory of everything that must survive a restart")
	f.StringVar(values["socket"], "socket", "", "Unix socket of the control API")
	f.StringVar(values["drain"], "drain", "", "how long tasks may go on after the daemon was asked to stop")
	f.StringVar(values["cancel_grace"], "cancel-grace", "", "how long a handler may take to let go of a canceled task")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		flags := map[string]any{}
		for key, name := range map[string]string{"state_dir": "state-dir", "socket": "socket", "drain": "drain", "cancel_grace": "cancel-grace"} {
			if f.Changed(name) {
				flags[key] = *values[key]
			}
		}
		if f.Changed("plugins") {
			flags["plugins.dirs"] = plugins
		}
		return a.run(cmd.Context(), config.Sources{File: config.FindFile(file), Environ: a.Env, Flags: flags})
	}
	return cmd
}

func (a *app) run(ctx context.Context, sources config.Sources) error {
	defer surviveBrokenPipes()()
	settings, warnings, err := config.Load(sources)
	if err != nil {
		return err
	}
	key := func(file string) (string, error) { return settings.APIKey(file, a.getenv) }
	if err := checkKeys(settings, key); err != nil {
		return err
	}
	out := logging.NewPump(a.Stderr)
	defer out.Close()
	log, err := a.newLog(settings.Log, a.Stderr, out)
	if err != nil {
		return usage(err)
	}
	out.Lost = func(records int) { log.Warn("records were left out, because nobody read the log", "count", records) }
	d, err := daemon.New(daemon.Config{Settings: settings, Key: key, Version: version(), Log: log, Getenv: a.getenv})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.Warn(w)
	}
	return a.serve(ctx, d)
}

// checkKeys refuses a daemon that could not serve a single agent.
func checkKeys(c config.Config, key func(string) (string, error)) error {
	_, err := key("")
	if err == nil {
		return nil
	}
	for _, agent := range c.Agents {
		if agent.KeyFile != "" {
			return nil // agents without one of their own will say what they lack
		}
	}
	return usage(err)
}

// serve runs a daemon: the first interrupt drains it, the second cancels its tasks.
func (a *app) serve(ctx context.Context, d *daemon.Daemon) error {
	running, stop := a.interruptible(ctx)
	defer stop()
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	hastened := make(chan struct{})
	go func() {
		defer close(hastened)
		select {
		case <-a.Interrupts.Second:
			d.CancelNow()
		case <-over.Done():
		}
	}()
	err := d.Run(running)
	end()
	<-hastened
	return err
}

// newLog makes a log that is read behind out and written to by way of w. The journal and terminals are only looked for
// behind a real file.
func (a *app) newLog(c config.Log, out, w io.Writer) (*slog.Logger, error) {
	t := logging.Config{Writer: w, Level: c.Level, Format: c.Format}
	if f, ok := out.(*os.File); ok {
		t.Journal = logging.InJournal(f, a.getenv("JOURNAL_STREAM"))
		t.Terminal = logging.IsTerminal(f)
	}
	log, _, err := logging.New(t)
	return log, err
}

var errNoKey = errors.New("there is no API key: set BLOCKS_API_KEY")
