package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
)

// What the commands that ask a running daemon have in common.

// controlCommand adds --json and --socket to a command that asks a daemon.
func (a *app) controlCommand(cmd *cobra.Command, run func(ctx context.Context, c *control.Client, asJSON bool, args []string) error) *cobra.Command {
	var asJSON bool
	var socket string
	cmd.Flags().BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.Flags().StringVar(&socket, "socket", "", "control socket of the daemon (default $BLOCKSD_SOCKET, else "+config.Default().Socket+")")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		path := socket
		if path == "" {
			path = a.getenv("BLOCKSD_SOCKET")
		}
		if path == "" {
			path = config.Default().Socket
		}
		c, err := control.Dial(ctx, path)
		if err != nil {
			return because(ctx, err)
		}
		defer c.Close()
		return because(ctx, run(ctx, c, asJSON, args))
	}
	return cmd
}

// table prints rows in columns; empty cells are dashes.
func table(w io.Writer, indent string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = printable(c)
			if c == "" && i < len(row)-1 {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(tw, indent+strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return tw.Flush()
}

// age is a duration as people say it.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// bytesText is a size as people say it.
func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
