package cli

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/blocksd/blocksd/daemon/config"
)

const configShowHelp = `Show every key of the configuration with its value and where that comes from: a default, a file with its line, a variable or a
flag. Passwords in addresses and in arguments are hidden; API keys are not part of the configuration.

The command reads what blocksd run would read here and now. With --running it asks the daemon for what counts there.`

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Look at the configuration", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(newConfigShow(a))
	return cmd
}

func newConfigShow(a *app) *cobra.Command {
	var asJSON, running bool
	var socket string
	cmd := &cobra.Command{Use: "show", Short: "Show every value and where it comes from", Long: configShowHelp, Args: argsOfUse}
	flags := newSettingFlags(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.Flags().BoolVar(&running, "running", false, "ask the daemon for what counts there")
	cmd.Flags().StringVar(&socket, "socket", "", "control socket of the daemon, with --running (default $BLOCKSD_SOCKET, else "+config.DefaultSocket+")")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case running && flags.file != "":
			return usagef("config show: --running and --config cannot be combined: a daemon knows its own file")
		case socket != "" && !running:
			return usagef("config show: --socket needs --running: without it, no daemon is asked")
		}
		values, err := a.offlineValues(flags)
		if running {
			values, err = a.runningValues(cmd, socket)
		}
		switch {
		case err != nil:
			return err
		case asJSON:
			return a.printJSON(values)
		}
		return printValues(a.Stdout, values)
	}
	return cmd
}

// valueForm is one key of `config show --json`.
type valueForm struct {
	Key string `json:"key"`
	// Value has the type of the key: text, number, true or false, or a list of texts.
	Value  any    `json:"value"`
	Source string `json:"source"`
	// Where is the file with its line, the variable or the flag; "" for a default.
	Where string `json:"where"`
	text  string
}

func formOfValue(key, text, source, where string) valueForm {
	f := valueForm{key, text, source, where, text}
	var typed any
	if yaml.Unmarshal([]byte(text), &typed) == nil && typed != nil {
		f.Value = typed
	}
	return f
}

func (a *app) offlineValues(flags *settingFlags) ([]valueForm, error) {
	l, err := config.Read(flags.sources(a.Env))
	for _, w := range l.Warnings {
		fmt.Fprintln(a.Stderr, "warning: "+printable(w))
	}
	if err != nil {
		return nil, err
	}
	out := []valueForm{}
	for _, v := range l.Values() {
		out = append(out, formOfValue(v.Key, v.Text, v.Origin.Source, v.Origin.Where))
	}
	return out, nil
}

func (a *app) runningValues(cmd *cobra.Command, socket string) ([]valueForm, error) {
	ctx, cancel := a.interruptible(cmd.Context())
	defer cancel()
	c, err := a.dialDaemon(ctx, socket)
	if err != nil {
		return nil, because(ctx, err)
	}
	defer c.Close()
	values, err := c.ShowConfig(ctx)
	if err != nil {
		return nil, because(ctx, err)
	}
	out := []valueForm{}
	for _, v := range values {
		out = append(out, formOfValue(v.GetKey(), v.GetValue(), v.GetSource(), v.GetWhere()))
	}
	return out, nil
}

func printValues(w io.Writer, values []valueForm) error {
	rows := [][]string{{"KEY", "VALUE", "FROM"}}
	for _, v := range values {
		from := cmp.Or(v.Where, v.Source)
		if v.Source == config.SourceBefore {
			from = "before; waits for a restart of the daemon"
		}
		rows = append(rows, []string{v.Key, v.text, from})
	}
	return table(w, rows)
}
