//go:build !linux

package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newLauncher(*app) *cobra.Command {
	return &cobra.Command{
		Use: "launcher", Short: "Start handlers as users of their own for the daemon", Args: argsOfUse,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("this system has no launchers: it is not Linux")
		},
	}
}
