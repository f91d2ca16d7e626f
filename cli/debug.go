package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

func newDebug(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "debug", Short: "Look for a fault in the daemon itself", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(newDebugDump(a), newDebugLogLevel(a))
	return cmd
}

// dumpForm is what `debug dump --json` prints.
type dumpForm struct {
	Directory string           `json:"directory"`
	Counts    map[string]int64 `json:"counts"`
	names     []string
}

func newDebugDump(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "dump", Short: "Write what the daemon's process is doing into a new directory", Args: argsOfUse,
		Long: "Write what the daemon's process is doing into a new directory: goroutines.txt has the stacks of all goroutines, heap.pprof the\n" +
			"heap profile (go tool pprof reads it). A bug report should have both. Neither holds the content of tasks.",
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory to make (default blocksd-dump-TIME in the working directory)")
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, _ []string) error {
		d, err := c.Dump(ctx)
		if err != nil {
			return because(ctx, err)
		}
		if dir == "" {
			dir = "blocksd-dump-" + time.Now().UTC().Format("20060102T150405Z")
		}
		if err := writeDump(dir, d); err != nil {
			return fmt.Errorf("write the dump: %w: name another directory with --dir", err)
		}
		f := dumpForm{Directory: dir, Counts: map[string]int64{}}
		for _, n := range d.GetCounts() {
			f.Counts[n.GetName()] = n.GetValue()
			f.names = append(f.names, n.GetName())
		}
		if asJSON {
			return a.printJSON(f)
		}
		return printDump(a.Stdout, f)
	})
}

func writeDump(dir string, d *controlv1.DumpResponse) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "goroutines.txt"), d.GetGoroutines(), 0o600),
		os.WriteFile(filepath.Join(dir, "heap.pprof"), d.GetHeap(), 0o600))
}

func printDump(w io.Writer, f dumpForm) error {
	for _, name := range f.names {
		fmt.Fprintf(w, "%-24s %d\n", name, f.Counts[name])
	}
	_, err := fmt.Fprintf(w, "the stacks and the heap profile are in %s\n", f.Directory)
	return err
}

type logLevelForm struct {
	Level    string `json:"level"`
	Previous string `json:"previous"`
}

func newDebugLogLevel(a *app) *cobra.Command {
	return daemonCommand[logLevelForm]{
		use: "log-level LEVEL", short: "Change the level of the daemon's log until it is restarted",
		long: "Change the level of the daemon's log to debug, info, warn or error, until the daemon is restarted or a reload changes log.level.\n" +
			"At debug the log has a line for each step of each task.",
		call: func(ctx context.Context, c *control.Client, args []string) (logLevelForm, error) {
			if !config.IsLogLevel(args[0]) {
				return logLevelForm{}, usagef("debug log-level: the level must be debug, info, warn or error, not %q", args[0])
			}
			previous, err := c.SetLogLevel(ctx, args[0])
			return logLevelForm{args[0], previous}, err
		},
		show: func(w io.Writer, f logLevelForm) error {
			_, err := fmt.Fprintf(w, "the log level is %s and was %s\n", f.Level, f.Previous)
			return err
		},
	}.command(a)
}
