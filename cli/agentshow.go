package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

// agentShownForm is the machine-readable form of agents show.
type agentShownForm struct {
	listedForm
	OrgID        string          `json:"organizationId"`
	RegisteredAt string          `json:"registeredAt"`
	FreeTasks    int             `json:"freeTasks"`
	FreeMinutes  int             `json:"freeMinutes"`
	Version      string          `json:"version"`
	TaskKinds    []wire.TaskKind `json:"taskKinds"`
	Inputs       []inputForm     `json:"inputs"`
	Outputs      []outputForm    `json:"outputs"`
	Streams      []streamForm    `json:"streams"`
	Instances    []instanceForm  `json:"instances"`
	Card         json.RawMessage `json:"card"`
}

type inputForm struct {
	ID           string          `json:"id"`
	ContentType  string          `json:"contentType"`
	Required     bool            `json:"required"`
	Description  string          `json:"description"`
	MaxSizeBytes int64           `json:"maxSizeBytes,omitempty"`
	Example      json.RawMessage `json:"example,omitempty"`
}

type outputForm struct {
	ID          string `json:"id"`
	ContentType string `json:"contentType"`
	Guaranteed  bool   `json:"guaranteed"`
}

type streamForm struct {
	Name      string `json:"name"`
	Direction string `json:"direction"`
	Format    string `json:"format"`
	Affinity  string `json:"affinity"`
}

type instanceForm struct {
	InstanceID  string `json:"instanceId"`
	ConnectedAt string `json:"connectedAt"`
	SDK         string `json:"sdk"`
	SDKVersion  string `json:"sdkVersion"`
	OS          string `json:"os"`
}

func newAgentsShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show what an agent takes, gives and costs, and who serves it", Args: argsOfUse,
	}
	run := a.registryCommand(cmd, false, func(ctx context.Context, r *registry, asJSON bool, args []string) error {
		found, err := r.Agent(ctx, r.key.Key, args[0])
		if errors.Is(err, backend.ErrNotFound) {
			return fmt.Errorf("agents show: the network knows no agent %q that %s may see: see blocksd agents", args[0], whoAsks(r.key.Key))
		}
		if err != nil {
			return err
		}
		instances, err := r.Instances(ctx, r.key.Key, found.Name)
		if err != nil {
			return err
		}
		form, cardErr := formOfShown(found, instances)
		if cardErr != nil {
			fmt.Fprintf(a.Stderr, "warning: the card of agent %s cannot be read: %s\n", found.Name, printable(cardErr.Error()))
		}
		if asJSON {
			return a.printJSON(form)
		}
		return a.screen().agent(a.Stdout, form)
	})
	connect := run.RunE
	run.RunE = func(cmd *cobra.Command, args []string) error {
		if err := wire.CheckAgentName(args[0]); err != nil {
			return usagef("agents show: %w", err)
		}
		return connect(cmd, args)
	}
	return run
}

func whoAsks(key string) string {
	if key == "" {
		return "anybody without an API key"
	}
	return "this API key"
}

// formOfShown gathers what is known. A card that this version cannot read leaves its members empty.
func formOfShown(a backend.Agent, instances []backend.Instance) (agentShownForm, error) {
	f := agentShownForm{
		listedForm: formOfAgent(a), OrgID: a.OrgID, RegisteredAt: a.RegisteredAt, FreeTasks: a.FreeTasks, FreeMinutes: a.FreeMinutes,
		TaskKinds: []wire.TaskKind{}, Inputs: []inputForm{}, Outputs: []outputForm{}, Streams: []streamForm{}, Instances: []instanceForm{}, Card: a.Card,
	}
	if f.Card == nil {
		f.Card = json.RawMessage("null")
	}
	for _, i := range instances {
		f.Instances = append(f.Instances, instanceForm{i.ID, i.ConnectedAt, i.SDKLanguage, i.SDKVersion, i.DeviceOS})
	}
	if a.Card == nil {
		return f, nil
	}
	c, err := card.Parse(a.Card)
	if err != nil {
		return f, err
	}
	f.Version, f.TaskKinds = c.Version, append(f.TaskKinds, c.TaskKinds...)
	for _, i := range c.Inputs {
		f.Inputs = append(f.Inputs, inputForm{i.ID, i.ContentType, i.Required, i.Description, i.MaxSizeBytes, i.Example})
	}
	for _, o := range c.Outputs {
		f.Outputs = append(f.Outputs, outputForm{o.ID, o.ContentType, o.Guaranteed})
	}
	for name, s := range c.Streams {
		f.Streams = append(f.Streams, streamForm{name, s.Direction, s.Format, s.Affinity})
	}
	slices.SortFunc(f.Streams, func(x, y streamForm) int { return cmp.Compare(x.Name, y.Name) })
	return f, nil
}

func (s screen) agent(w io.Writer, f agentShownForm) error {
	var kinds []string
	for _, k := range f.TaskKinds {
		kinds = append(kinds, string(k))
	}
	facts := [][]string{
		{"agent", f.Name + withSpace(f.Version)}, {"name", f.DisplayName}, {"about", wire.CutText(f.Description, 68)},
		{"organization", f.Organization}, {"listing", f.Listing}, {"tasks", strings.Join(kinds, ", ")},
		{"price", f.priceText()}, {"served by", counted(int64(len(f.Instances)), "instance")},
	}
	for _, fact := range facts {
		if fact[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-13s %s\n", fact[0], printable(fact[1])); err != nil {
			return err
		}
	}
	var inputs, outputs, streams, instances [][]cell
	row := func(rows *[][]cell, texts ...string) {
		cells := make([]cell, len(texts))
		for i, text := range texts {
			cells[i].text = text
		}
		*rows = append(*rows, cells)
	}
	for _, i := range f.Inputs {
		row(&inputs, i.ID, i.ContentType, yesNo(i.Required), wire.CutText(i.Description, maxShownText))
	}
	for _, o := range f.Outputs {
		row(&outputs, o.ID, o.ContentType, yesNo(o.Guaranteed))
	}
	for _, s := range f.Streams {
		row(&streams, s.Name, s.Direction, s.Format, s.Affinity)
	}
	for _, i := range f.Instances {
		row(&instances, i.InstanceID, i.ConnectedAt, strings.TrimSpace(i.SDK+" "+wire.CutText(i.SDKVersion, 12)), i.OS)
	}
	for _, section := range []struct {
		columns []column
		rows    [][]cell
	}{
		{[]column{{title: "INPUT"}, {title: "TYPE"}, {title: "REQUIRED"}, {title: "DESCRIPTION"}}, inputs},
		{[]column{{title: "OUTPUT"}, {title: "TYPE"}, {title: "ALWAYS"}}, outputs},
		{[]column{{title: "STREAM"}, {title: "DIRECTION"}, {title: "FORMAT"}, {title: "AFFINITY"}}, streams},
		{[]column{{title: "INSTANCE"}, {title: "SINCE"}, {title: "SDK"}, {title: "OS", rank: 1}}, instances},
	} {
		if len(section.rows) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := s.grid(w, section.columns, section.rows); err != nil {
			return err
		}
	}
	return nil
}

// withSpace puts a space before a version, if there is one.
func withSpace(v string) string {
	if v == "" {
		return ""
	}
	return " " + wire.CutText(v, 30)
}

// priceText says what an agent costs.
func (f agentShownForm) priceText() string {
	if f.BillingMode != string(wire.Paid) {
		return f.BillingMode
	}
	var parts []string
	add := func(price *string, unit string, free int) {
		if price == nil {
			return
		}
		text := priceText(*price) + " a " + unit
		if free > 0 {
			text += fmt.Sprintf(" (the first %d free)", free)
		}
		parts = append(parts, text)
	}
	add(f.PricePerTask, "task", f.FreeTasks)
	add(f.PricePerMinute, "minute", f.FreeMinutes)
	return cmp.Or(strings.Join(parts, ", "), "paid")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
