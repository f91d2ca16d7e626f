package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/internal/nearest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
)

// listedForm is an agent in the machine-readable form of agents.
type listedForm struct {
	Name           string   `json:"name"`
	DisplayName    string   `json:"displayName"`
	Description    string   `json:"description"`
	Organization   string   `json:"organization"`
	Listing        string   `json:"listing"`
	BillingMode    string   `json:"billingMode"`
	PricePerTask   *string  `json:"pricePerTask"`
	PricePerMinute *string  `json:"pricePerMinute"`
	Online         int      `json:"online"`
	Tags           []string `json:"tags"`
}

func formOfAgent(a backend.Agent) listedForm {
	return listedForm{
		a.Name, a.DisplayName, a.Description, a.OrgName, a.Listing, string(a.BillingMode), orNull(a.PerTask), orNull(a.PerMinute), a.Online,
		append([]string{}, a.Tags...),
	}
}

// defaultListed is how many agents are shown where nobody says otherwise.
const defaultListed = 50

func newAgents(a *app) *cobra.Command {
	var status string
	var limit int
	var owned bool
	cmd := &cobra.Command{
		Use: "agents [QUERY]", Short: "Search the agents of the network",
		Long: "Search the agents of the network that you may see: all of them, or those that match QUERY, which may have words, \"quoted\n" +
			"phrases\", tag:TAG and -exclusions. ONLINE is how many instances take tasks.",
		Args: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if strings.ToValidUTF8(arg, "") != arg {
					return usagef("%s: the query is not valid UTF-8", commandName(cmd))
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&status, "status", "all", "online, offline or all")
	cmd.Flags().IntVar(&limit, "limit", defaultListed, "show at most so many; 0 for all")
	cmd.Flags().BoolVar(&owned, "owned", false, "only those of your organization")
	run := a.registryCommand(cmd, false, func(ctx context.Context, r *registry, asJSON bool, args []string) error {
		q := backend.AgentQuery{Text: strings.Join(args, " "), Status: status, Owned: owned, Limit: limit}
		if status == "all" {
			q.Status = ""
		}
		found, err := r.Agents(ctx, r.key.Key, q)
		if err != nil {
			return err
		}
		if found.Problem != "" {
			fmt.Fprintf(a.Stderr, "warning: the query was searched for as it stands: %s\n", printable(found.Problem))
		}
		if asJSON {
			forms := []listedForm{}
			for _, one := range found.Agents {
				forms = append(forms, formOfAgent(one))
			}
			return a.printJSON(forms)
		}
		return a.showAgents(found, q)
	})
	connect := run.RunE
	run.RunE = func(cmd *cobra.Command, args []string) error {
		known := []string{"online", "offline", "all"}
		switch {
		case !slices.Contains(known, status):
			return usagef("agents: --status must be online, offline or all, not %q%s", status, nearest.Hint(status, known))
		case limit < 0:
			return usagef("agents: --limit must be at least 0, not %d", limit)
		}
		return connect(cmd, args)
	}
	run.AddCommand(newAgentsShow(a))
	return run
}

// maxShownText is how much of a description a row of a list shows.
const maxShownText = 36

func (a *app) showAgents(found backend.AgentList, q backend.AgentQuery) error {
	if len(found.Agents) == 0 {
		_, err := fmt.Fprintln(a.Stdout, "no agent found")
		return err
	}
	rows := [][]string{{"AGENT", "ONLINE", "LISTING", "PRICE", "DESCRIPTION"}}
	for _, one := range found.Agents {
		rows = append(rows, []string{one.Name, strconv.Itoa(one.Online), one.Listing, priceOf(one), wire.CutText(one.Description, maxShownText)})
	}
	if err := table(a.Stdout, rows); err != nil {
		return err
	}
	if found.More {
		_, err := fmt.Fprintf(a.Stdout, "more were found: --limit shows more than %d\n", q.Limit)
		return err
	}
	return nil
}

// priceOf is what an agent costs, in few words.
func priceOf(a backend.Agent) string {
	var parts []string
	if a.PerTask != "" {
		parts = append(parts, priceText(a.PerTask)+"/task")
	}
	if a.PerMinute != "" {
		parts = append(parts, priceText(a.PerMinute)+"/min")
	}
	if a.BillingMode != wire.Paid || len(parts) == 0 {
		return string(a.BillingMode)
	}
	return strings.Join(parts, " ")
}
