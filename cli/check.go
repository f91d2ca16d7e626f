package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
)

// defaultCard is the card that is checked if none is named.
const defaultCard = "agent-card.json"

func newCheck(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "check [CARD | --config FILE]", Short: "Check an agent card or a configuration file, offline",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usagef("%s takes one card, not %d", commandName(cmd), len(args))
			case len(args) == 1 && file != "":
				return usagef("%s takes a card or --config, not both", commandName(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				return a.checkConfig(file)
			}
			return a.checkCard(append(args, defaultCard)[0])
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file to check, with the cards that it names")
	return cmd
}

func (a *app) checkCard(path string) error {
	c, err := card.Load(path)
	if err == nil {
		err = card.CheckHandlerFile(c, path)
	}
	if err != nil {
		return a.reportCard(path, err)
	}
	for _, w := range c.Warnings() {
		fmt.Fprintf(a.Stderr, "warning: agent card %s: %s\n", path, w)
	}
	_, err = fmt.Fprintf(a.Stdout, "agent card %s is valid: agent %s\n", path, c.AgentName)
	return err
}

// reportCard prints each problem on a line of its own and returns the error for the exit code.
func (a *app) reportCard(path string, err error) error {
	var ps card.Problems
	if !errors.As(err, &ps) {
		return usage(err)
	}
	for _, p := range ps {
		fmt.Fprintf(a.Stderr, "blocksd: agent card %s: %s\n", path, p)
	}
	return &exitError{code: exitUsage, err: err, silent: true}
}

func (a *app) checkConfig(file string) error {
	l, err := config.Read(config.Sources{File: file, Fragments: config.FragmentsOf(file)}) // this process does not have the daemon's environment
	var wrong config.Problems
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	for _, w := range l.Warnings {
		fmt.Fprintln(a.Stderr, "warning: "+w)
	}
	// All at once: what is missing does not depend on what is wrong elsewhere.
	all := slices.Clone(wrong)
	for _, p := range missing(l) {
		if !wrong.Tell(p) {
			all = append(all, p)
		}
	}
	var failed error
	for _, p := range all {
		fmt.Fprintf(a.Stderr, "blocksd: %s\n", p)
		failed = &exitError{code: exitUsage, err: errors.New(p.Message), silent: true}
	}
	for _, agent := range l.Config.Agents {
		if _, err := card.Load(agent.Card); err != nil {
			failed = a.reportCard(agent.Card, err)
			if !failed.(*exitError).silent {
				fmt.Fprintf(a.Stderr, "blocksd: %s\n", err)
				failed = &exitError{code: exitUsage, err: err, silent: true}
			}
		}
	}
	if failed != nil {
		return failed
	}
	_, err = fmt.Fprintf(a.Stdout, "configuration file %s is valid\n", file)
	return err
}
