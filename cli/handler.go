package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

func newHandler(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "handler", Short: "Make, check, pin, roll back and assign handlers", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(newHandlerNew(a), newHandlerCheck(a), newHandlerPin(a), newHandlerRollback(a), newHandlerAssign(a))
	return cmd
}

func newHandlerPin(a *app) *cobra.Command {
	var sum string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "pin HANDLER", Short: "Let a handler run only with the checksum that its file has now", Args: argsOfUse,
		Long: "Let a handler run only with the checksum that its file has now, or with --sha256. The command writes the checksum to the\n" +
			"file pins in the state directory; a running daemon notices. It does not start a file with another checksum, and keeps what\n" +
			"already runs.",
	}
	f := cmd.Flags()
	flags := newSettingFlags(f)
	flags.text("state_dir", "state-dir", "state directory of the daemon")
	flags.plugins()
	f.StringVar(&sum, "sha256", "", "checksum in hexadecimal, instead of the one of the file")
	f.BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c, _, err := config.Load(flags.sources(a.Env))
		if err != nil {
			return err
		}
		sum := strings.ToLower(sum)
		if !f.Changed("sha256") {
			if sum, err = checksumOf(c, args[0]); err != nil {
				return usage(err)
			}
		} else if !catalog.IsChecksum(sum) {
			return usagef("--sha256 must be 64 hexadecimal digits, not %q", sum)
		}
		path := filepath.Join(c.StateDir, catalog.PinsFile)
		if err := catalog.Pin(path, args[0], sum); err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(struct {
				Handler string `json:"handler"`
				SHA256  string `json:"sha256"`
				File    string `json:"file"`
			}{args[0], sum, path})
		}
		_, err = fmt.Fprintf(a.Stdout, "handler %s is pinned to %s in %s\n", args[0], sum, path)
		return err
	}
	return cmd
}

// checksumOf finds the file of a handler as the daemon does.
func checksumOf(c config.Config, name string) (string, error) {
	if i := slices.IndexFunc(c.Handlers, func(h config.Handler) bool { return h.Name == name && h.Path != "" }); i >= 0 {
		return catalog.Hash(c.Handlers[i].Path)
	}
	found, skipped := new(catalog.Scanner).Scan(c.Plugins.Dirs)
	for _, f := range found {
		if f.Name == name {
			return f.SHA256, nil
		}
	}
	for _, s := range skipped {
		if s.Name == name || s.Name == "" {
			if s.Name == "" {
				s.Reason += "; or name the handler's directory with --plugins"
			}
			return "", fmt.Errorf("pin handler %s: %s", name, s.Reason)
		}
	}
	return "", fmt.Errorf("pin handler %s: there is no program of that name in %s: name its directory with --plugins", name, strings.Join(c.Plugins.Dirs, ", "))
}
