package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/network/wire"
)

func newUnregister(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "unregister NAME", Short: "Delete an agent from the network's registry", Args: argsOfUse,
		Long: "Delete an agent from the network's registry, for everybody, with its grants. It cannot be undone; registering the agent again\n" +
			"makes a new one. On a terminal the command asks first; elsewhere it needs --yes.",
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	run := a.registryCommand(cmd, true, func(ctx context.Context, r *registry, asJSON bool, args []string) error {
		name := args[0]
		if !yes {
			of := ""
			if found, err := r.Agent(ctx, r.key.Key, name); err != nil {
				return err
			} else if found.OrgName != "" {
				of = " of " + printable(found.OrgName)
			}
			if !a.confirm(ctx, fmt.Sprintf("Delete agent %s%s from the registry of %s?", name, of, r.deployment.BackendURL)) {
				return fmt.Errorf("the agent %s was left as it is", name)
			}
		}
		if err := r.Unregister(ctx, r.key.Key, name); err != nil {
			return notYours(err, name)
		}
		if asJSON {
			return a.printJSON(struct {
				Agent        string `json:"agent"`
				Unregistered bool   `json:"unregistered"`
			}{name, true})
		}
		_, err := fmt.Fprintf(a.Stdout, "agent %s is unregistered\n", name)
		return err
	})
	connect := run.RunE
	run.RunE = func(cmd *cobra.Command, args []string) error {
		if err := wire.CheckAgentName(args[0]); err != nil {
			return usagef("unregister: %w", err)
		}
		if !yes && !a.asks() {
			return usagef("unregister: this deletes the agent %s for everybody, and there is no terminal to ask on: add --yes", args[0])
		}
		return connect(cmd, args)
	}
	return run
}
