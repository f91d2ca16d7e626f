package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

// What a new agent is registered as where nobody says otherwise.
const (
	defaultListing     = "private"
	defaultBillingMode = string(wire.Free)
)

// registeredForm is the machine-readable form of register.
type registeredForm struct {
	Agent          string  `json:"agent"`
	Listing        string  `json:"listing"`
	BillingMode    string  `json:"billingMode"`
	PricePerTask   *string `json:"pricePerTask"`
	PricePerMinute *string `json:"pricePerMinute"`
	Organization   string  `json:"organization"`
	// New: the network did not know the agent before.
	New bool   `json:"new"`
	URL string `json:"url"`
	// DryRun: nothing was sent; Request is what would have been.
	DryRun  bool `json:"dryRun"`
	Request any  `json:"request,omitempty"`
}

func newRegister(a *app) *cobra.Command {
	var o offer
	var dryRun bool
	cmd := &cobra.Command{
		Use: "register CARD", Short: "Make an agent known to the network, or update what is known of it", Args: argsOfUse,
		Long: "Make an agent known to the network, or update what is known of it. CARD is its card, or a directory with agent-card.json. A\n" +
			"new agent is private and free unless the flags say otherwise; what the flags leave out of a registered one stays as it is.\n" +
			"A paid agent needs a price and --accept-terms.",
	}
	f := cmd.Flags()
	f.StringVar(&o.listing, "listing", "", "private or public (default private)")
	f.StringVar(&o.billingMode, "billing-mode", "", "free or paid (default free)")
	f.StringVar(&o.perTask, "price-per-task", "", "price of a request task in US dollars, such as 0.05")
	f.StringVar(&o.perMinute, "price-per-minute", "", "price of a minute of a pipe task in US dollars, such as 0.10")
	f.BoolVar(&o.acceptTerms, "accept-terms", false, "accept the network's terms for paid agents")
	f.BoolVar(&dryRun, "dry-run", false, "check everything and show what would be sent, but register nothing")
	var c card.Card
	run := a.registryCommand(cmd, true, func(ctx context.Context, r *registry, asJSON bool, _ []string) error {
		return a.register(ctx, r, c, o, dryRun, asJSON)
	})
	connect := run.RunE
	run.RunE = func(cmd *cobra.Command, args []string) (err error) {
		// What is wrong on this machine is said before the network is asked.
		if c, err = a.cardToRegister(args[0]); err != nil {
			return err
		}
		if err := o.checkFlags(cmd.Flags(), c); err != nil {
			return usagef("register: %w", err)
		}
		return connect(cmd, args)
	}
	return run
}

// cardToRegister reads the card at path, or in the directory path.
func (a *app) cardToRegister(path string) (card.Card, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, defaultCard)
	}
	c, err := card.Load(path)
	if err != nil {
		return c, a.reportCard(path, err)
	}
	if err := card.CheckHandlerFile(c, path); err != nil {
		fmt.Fprintf(a.Stderr, "warning: agent card %s: %s\n", path, printable(err.Error()))
	}
	for _, w := range c.Warnings() {
		fmt.Fprintf(a.Stderr, "warning: agent card %s: %s\n", path, printable(w.String()))
	}
	return c, nil
}

// checkFlags checks what the flags say, as far as it does not depend on the network.
func (o offer) checkFlags(flags *pflag.FlagSet, c card.Card) error {
	for _, f := range []struct{ name, value string }{
		{"listing", o.listing}, {"billing-mode", o.billingMode}, {"price-per-task", o.perTask}, {"price-per-minute", o.perMinute},
	} {
		if flags.Changed(f.name) && f.value == "" {
			return fmt.Errorf("--%s must not be empty", f.name)
		}
	}
	o.listing, o.billingMode = cmp.Or(o.listing, defaultListing), cmp.Or(o.billingMode, defaultBillingMode)
	if !flags.Changed("billing-mode") && (o.perTask != "" || o.perMinute != "" || o.acceptTerms) {
		o.billingMode = string(wire.Paid) // it may be that already
	}
	if o.billingMode == string(wire.Paid) && o.perTask == "" && o.perMinute == "" {
		return nil // the network may know a price
	}
	_, _, err := o.check(c.TaskKinds, backend.PriceLimits{})
	return err
}

// keep fills in from the registered agent what the flags leave out.
func (o offer) keep(old backend.Agent) offer {
	o.listing = cmp.Or(o.listing, old.Listing, defaultListing)
	o.billingMode = cmp.Or(o.billingMode, string(old.BillingMode), defaultBillingMode)
	if o.billingMode == string(wire.Paid) && o.perTask == "" && o.perMinute == "" {
		o.perTask, o.perMinute = plainPrice(old.PerTask), plainPrice(old.PerMinute)
	}
	return o
}

// plainPrice is a price of the registry as a flag would have it.
func plainPrice(text string) string {
	if text == "" || rational(text).Sign() == 0 {
		return ""
	}
	return rational(text).FloatString(pricePlaces)
}

func (a *app) register(ctx context.Context, r *registry, c card.Card, o offer, dryRun, asJSON bool) error {
	kind, err := r.Kind(ctx)
	if err != nil {
		return err
	}
	account, err := r.Account(ctx, r.key.Key)
	if err != nil {
		return err
	}
	old, err := r.Agent(ctx, r.key.Key, c.AgentName)
	isNew := errors.Is(err, backend.ErrNotFound)
	if err != nil && !isNew {
		return err
	}
	if !isNew && account.OrgID != "" && old.OrgID != "" && old.OrgID != account.OrgID {
		return usagef("the agent name %s is taken by another organization: choose another agentName in the card", c.AgentName)
	}
	o = o.keep(old)
	limits := backend.DefaultPriceLimits
	if o.billingMode == string(wire.Paid) {
		if kind.Enterprise {
			return usagef("this network has no paid agents: give --billing-mode free")
		}
		if limits, err = r.PriceLimits(ctx); err != nil {
			limits = backend.DefaultPriceLimits // the registry checks as well
		}
	}
	perTask, perMinute, err := o.check(c.TaskKinds, limits)
	if err != nil {
		return usage(err)
	}
	if old.BillingMode == wire.Paid && o.billingMode == string(wire.Free) {
		return usagef("a paid agent cannot become free: unregister %s first, or give --billing-mode paid", c.AgentName)
	}
	reg := backend.Registration{
		AgentName: c.AgentName, Card: c.Raw, Listing: o.listing, BillingMode: wire.BillingMode(o.billingMode), PerTask: perTask, PerMinute: perMinute,
		ToolVersion: version(),
	}
	if o.billingMode == string(wire.Paid) {
		reg.TermsAcceptedAt = time.Now()
		reg.FreeTasks, reg.FreeMinutes = old.FreeTasks, old.FreeMinutes
	}
	form := registeredForm{
		Agent: c.AgentName, Listing: o.listing, BillingMode: o.billingMode, PricePerTask: orNull(perTask), PricePerMinute: orNull(perMinute),
		Organization: cmp.Or(account.OrgName, account.OrgID), New: isNew, DryRun: dryRun,
	}
	if dryRun {
		form.Request = reg.Body()
	} else if form.URL, err = r.Register(ctx, r.key.Key, reg); err != nil {
		return notYours(err, c.AgentName)
	} else if form.URL == "" {
		form.URL = r.deployment.BackendURL + "/agents/" + c.AgentName
	}
	if asJSON {
		return a.printJSON(form)
	}
	return a.showRegistered(form)
}

func (a *app) showRegistered(f registeredForm) error {
	did := "is registered"
	switch {
	case f.DryRun && f.New:
		did = "would be registered"
	case f.DryRun:
		did = "would be updated"
	case !f.New:
		did = "is updated"
	}
	text := fmt.Sprintf("agent %s %s for %s: %s, %s", f.Agent, did, printable(cmp.Or(f.Organization, "your organization")), f.Listing, f.BillingMode)
	if f.PricePerTask != nil {
		text += ", " + priceText(*f.PricePerTask) + " a task"
	}
	if f.PricePerMinute != nil {
		text += ", " + priceText(*f.PricePerMinute) + " a minute"
	}
	if _, err := fmt.Fprintln(a.Stdout, text); err != nil {
		return err
	}
	if f.DryRun {
		fmt.Fprintln(a.Stdout, "nothing was sent; this would be:")
		return a.printJSON(f.Request)
	}
	_, err := fmt.Fprintln(a.Stdout, printable(f.URL))
	return err
}

// orNull is nil for an empty text.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
