package cli

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// whoamiForm is the machine-readable form of whoami.
type whoamiForm struct {
	OrgID      string `json:"orgId"`
	OrgName    string `json:"orgName"`
	AgentCount int    `json:"agentCount"`
	KeyID      string `json:"keyId"`
	// KeySource says where the key is from, Profile which login of Blocks' own tool it is from, "" for none.
	KeySource string `json:"keySource"`
	Profile   string `json:"profile"`
	// ExpiresAt and DaysRemaining are null where neither the network nor the login says when the key ends.
	ExpiresAt     *time.Time `json:"expiresAt"`
	DaysRemaining *int       `json:"daysRemaining"`
	Expired       bool       `json:"expired"`
	BackendURL    string     `json:"backendUrl"`
}

func newWhoami(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "whoami", Short: "Show whose the API key is and when it ends, as the network says", Args: argsOfUse,
	}
	return a.registryCommand(cmd, true, func(ctx context.Context, r *registry, asJSON bool, _ []string) error {
		account, err := r.Account(ctx, r.key.Key)
		if err != nil {
			return err
		}
		f := whoamiForm{
			OrgID: account.OrgID, OrgName: account.OrgName, AgentCount: account.AgentCount, KeyID: cmp.Or(account.KeyID, r.login.KeyID),
			KeySource: r.key.Source, Profile: r.login.Profile, BackendURL: r.deployment.BackendURL,
		}
		if a.ofDev {
			f.KeySource = "blocksd dev"
		}
		now := time.Now()
		expires := account.KeyExpires
		if expires.IsZero() {
			expires = r.key.Expires
		}
		if !expires.IsZero() {
			at, days := expires.UTC(), int(max(0, expires.Sub(now)).Hours()/24)
			f.ExpiresAt, f.DaysRemaining, f.Expired = &at, &days, !now.Before(expires)
		}
		if asJSON {
			return a.printJSON(f)
		}
		return a.showWhoami(f, now)
	})
}

func (a *app) showWhoami(f whoamiForm, now time.Time) error {
	ends := "the network does not say when it ends"
	if f.ExpiresAt != nil {
		ends = fmt.Sprintf("ends in %s, at %s", age(f.ExpiresAt.Sub(now)), f.ExpiresAt.Format(time.RFC3339))
	}
	if f.Expired {
		ends = "has ended at " + f.ExpiresAt.Format(time.RFC3339)
	}
	for _, fact := range [][2]string{
		{"organization", fmt.Sprintf("%s (%s), %s", cmp.Or(f.OrgName, "without a name"), f.OrgID, counted(int64(f.AgentCount), "agent"))},
		{"network", f.BackendURL},
		{"API key", "from " + f.KeySource},
		{"", ends},
	} {
		if _, err := fmt.Fprintf(a.Stdout, "%-13s %s\n", fact[0], printable(fact[1])); err != nil {
			return err
		}
	}
	return nil
}
