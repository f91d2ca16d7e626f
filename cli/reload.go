package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const reloadHelp = `Have the daemon read its configuration again. It applies what it can change while it runs, and the command says what that was
and what needs a restart of the daemon. A configuration that cannot be used changes nothing; the command then ends with status 2.`

// reloadForm is what `reload --json` prints.
type reloadForm struct {
	// Applied is false when the configuration cannot be used.
	Applied  bool         `json:"applied"`
	Problems []string     `json:"problems"`
	Changes  []changeForm `json:"changes"`
	Warnings []string     `json:"warnings"`
}

type changeForm struct {
	Key string `json:"key"`
	// Needs is live, handler or daemon; a change that needs a restart of the daemon has not been applied.
	Needs   string `json:"needs"`
	Applied bool   `json:"applied"`
	Old     string `json:"old"`
	New     string `json:"new"`
}

func formOfReload(r *controlv1.ReloadResponse) reloadForm {
	f := reloadForm{
		Applied: len(r.GetProblems()) == 0, Problems: append([]string{}, r.GetProblems()...), Changes: []changeForm{},
		Warnings: append([]string{}, r.GetWarnings()...),
	}
	for _, c := range r.GetChanges() {
		f.Changes = append(f.Changes, changeForm{c.GetKey(), c.GetNeeds(), c.GetNeeds() != config.NeedsDaemon, c.GetOld(), c.GetNew()})
	}
	return f
}

func newReload(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "reload", Short: "Have the daemon read its configuration again", Long: reloadHelp, Args: argsOfUse}
	return a.controlCommand(cmd, func(ctx context.Context, c *control.Client, asJSON bool, _ []string) error {
		r, err := c.Reload(ctx)
		if err != nil {
			return because(ctx, err)
		}
		f := formOfReload(r)
		if asJSON {
			err = a.printJSON(f)
		} else {
			for _, w := range f.Warnings {
				fmt.Fprintln(a.Stderr, "warning: "+printable(w))
			}
			for _, p := range f.Problems {
				fmt.Fprintln(a.Stderr, "blocksd: "+printable(p))
			}
			if f.Applied {
				err = printReload(a.Stdout, f)
			} else {
				fmt.Fprintln(a.Stderr, "blocksd: the daemon goes on with the configuration that it has")
			}
		}
		if err == nil && !f.Applied {
			return &exitError{code: exitUsage, err: errors.New(strings.Join(f.Problems, "; ")), silent: true}
		}
		return err
	})
}

func printReload(w io.Writer, f reloadForm) error {
	if len(f.Changes) == 0 {
		_, err := fmt.Fprintln(w, "nothing has changed")
		return err
	}
	for _, group := range []struct{ needs, title string }{
		{config.NeedsNothing, "applied:"},
		{config.NeedsHandler, "applied; the handlers concerned get new processes beside the old ones:"},
		{config.NeedsDaemon, "not applied, because it needs a restart of the daemon:"},
	} {
		title := group.title + "\n"
		for _, c := range f.Changes {
			if c.Needs != group.needs {
				continue
			}
			text := fmt.Sprintf("%s: %s → %s", c.Key, c.Old, c.New)
			if strings.HasSuffix(c.Key, "]") { // a whole entry
				text = c.Key + " " + strings.Replace(c.New, "there", "", 1)
			}
			if _, err := fmt.Fprintf(w, "%s  %s\n", title, printable(text)); err != nil {
				return err
			}
			title = ""
		}
	}
	return nil
}
