package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
)

// daemonCommand is a command that makes one call to a running daemon and prints the answer.
type daemonCommand[Answer any] struct {
	use, short, long string // as in cobra; use also says which arguments are needed
	// call returns the answer in the form that --json prints.
	call func(ctx context.Context, c *control.Client, args []string) (Answer, error)
	// interrupted ends the error of a command that was interrupted: what goes on in the daemon; "" for nothing.
	interrupted string
	// show prints the answer for people.
	show func(w io.Writer, answer Answer) error
}

func (d daemonCommand[Answer]) command(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: d.use, Short: d.short, Long: d.long, Args: argsOfUse}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, args []string) error {
		answer, err := d.call(ctx, c, args)
		switch {
		case err != nil && errors.Is(context.Cause(ctx), errInterrupted) && d.interrupted != "":
			return fmt.Errorf("%s: %w, but %s", cmd.Name(), errInterrupted, d.interrupted)
		case err != nil:
			return because(ctx, err)
		case asJSON:
			return a.printJSON(answer)
		}
		return d.show(a.Stdout, answer)
	})
}

func (a *app) addSocketFlag(cmd *cobra.Command, socket *string) {
	cmd.Flags().StringVar(socket, "socket", "", "control socket of the daemon (default $BLOCKSD_SOCKET, else "+config.DefaultSocket+")")
}

// socketPath is the control socket of the daemon to ask, given the value of --socket.
func (a *app) socketPath(given string) string {
	return cmp.Or(given, a.getenv("BLOCKSD_SOCKET"), config.DefaultSocket)
}

// controlCommand adds --json and --socket to a command, and connects to the daemon before run.
func (a *app) controlCommand(cmd *cobra.Command, run func(ctx context.Context, c *control.Client, asJSON bool, args []string) error) *cobra.Command {
	var asJSON bool
	var socket string
	cmd.Flags().BoolVar(&asJSON, "json", false, "machine-readable output")
	a.addSocketFlag(cmd, &socket)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		c, err := a.dialDaemon(ctx, socket)
		if err != nil {
			return because(ctx, err)
		}
		defer c.Close()
		return run(ctx, c, asJSON, args)
	}
	return cmd
}
