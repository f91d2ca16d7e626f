package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/cli/doctor"
)

func newDoctor(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look at all that blocksd needs, and say what to do about it", Args: argsOfUse,
		Long: "Look at everything that blocksd needs, on this machine and in the network, and say what to do about what is wrong. It needs no\n" +
			"daemon and changes nothing. It looks with the configuration that blocksd run would have, so it takes the same flags. Exits\n" +
			"with 1 if a check fails.",
	}
	flags := newSettingFlags(cmd.Flags())
	flags.plugins()
	flags.text("state_dir", "state-dir", "state directory of the daemon")
	flags.text("socket", "socket", "control socket of the daemon (default $BLOCKSD_SOCKET, else that of the configuration)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		sources := flags.sources(a.Env)
		if socket := a.getenv("BLOCKSD_SOCKET"); socket != "" && sources.Flags["socket"] == nil {
			sources.Flags["socket"] = socket
		}
		results := doctor.Run(ctx, doctor.Config{
			Sources: sources, Getenv: a.getenv, Problems: missing, Version: version(), Paths: doctor.DefaultPaths,
		})
		if err := because(ctx, ctx.Err()); err != nil {
			return err
		}
		for i, r := range results {
			results[i].Detail, results[i].Fix = printable(r.Detail), printable(r.Fix)
		}
		var err error
		if asJSON {
			err = a.printJSON(results)
		} else {
			a.doctorOverlooksDev()
			err = doctor.Print(a.Stdout, results, a.width(), a.style().on)
		}
		if err == nil && doctor.Failed(results) {
			err = &exitError{code: exitFailure, err: errors.New("a check failed"), silent: true}
		}
		return err
	}
	return cmd
}

// doctorOverlooksDev says that a network of blocksd dev, which other commands find, is not what is looked at.
func (a *app) doctorOverlooksDev() {
	if a.getenv("BLOCKSD_SOCKET") == "" && a.devVariables() != nil {
		a.dimOnce("this is about what blocksd run needs; the blocksd dev that runs here needs none of it")
	}
}
