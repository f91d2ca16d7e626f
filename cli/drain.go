package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/control"
)

func newDrain(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain", Short: "Let the agents leave the network; the daemon stays", Args: exactly(0, "blocksd drain"),
		Long: "Let every agent leave the network: it takes no more tasks, those that run may go on for the configured drain, then they are\n" +
			"asked to end. The command returns when all agents have left; an interrupt ends the waiting, not the drain. The daemon and\n" +
			"its handlers go on. Undo it with blocksd undrain, or by a restart.",
	}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, _ []string) error {
		if err := c.Drain(ctx); err != nil {
			return err
		}
		return a.done(asJSON, "drained", "all agents have left the network")
	})
}

func newUndrain(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "undrain", Short: "Bring the agents back after a drain", Args: exactly(0, "blocksd undrain")}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, _ []string) error {
		if err := c.Undrain(ctx); err != nil {
			return err
		}
		return a.done(asJSON, "undrained", "the agents take tasks, or are on their way back")
	})
}

// done says that a command without an answer of its own has done its work.
func (a *app) done(asJSON bool, word, sentence string) error {
	if asJSON {
		return a.printJSON(map[string]bool{word: true})
	}
	_, err := fmt.Fprintln(a.Stdout, sentence)
	return err
}
