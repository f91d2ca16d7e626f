package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

func newCard(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "card", Short: "Make agent cards", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(newCardNew(a))
	return cmd
}

type cardOptions struct {
	agent, description, organization, handler, example string
	concurrency, seconds                               int
	asJSON                                             bool
}

func newCardNew(a *app) *cobra.Command {
	var o cardOptions
	cmd := &cobra.Command{
		Use: "new CARD", Short: "Write an agent card, which says what an agent is", Args: argsOfUse,
		Long: "Write a valid agent card to the file CARD, to be edited: an agent that takes one text and answers with one. A card named\n" +
			"NAME.agent-card.json is for the handler NAME beside it. A file that is there already is left alone.",
		Example: "  blocksd card new plugins/shout.agent-card.json\n  blocksd check plugins/shout.agent-card.json",
		RunE:    func(_ *cobra.Command, args []string) error { return a.cardNew(args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.agent, "agent", "", "name of the agent (default: that of the handler, else that of the directory)")
	f.StringVar(&o.description, "description", "", "what it does, for those who look for an agent")
	f.StringVar(&o.organization, "organization", "Example", "who offers it")
	f.StringVar(&o.handler, "handler", "", "file of the handler, relative to the card (default: NAME of NAME.agent-card.json)")
	f.StringVar(&o.example, "example", "hello", "example of the text, which blocksd dev sends; may be empty")
	f.IntVar(&o.concurrency, "concurrency", 4, "how many tasks it works on at once")
	f.IntVar(&o.seconds, "max-running-time", 60, "seconds after which a task is canceled")
	f.BoolVar(&o.asJSON, "json", false, "machine-readable output")
	return cmd
}

func (a *app) cardNew(path string, o cardOptions) error {
	fail := func(err error) error { return usagef("card new %s: %w", path, err) }
	handler, beside := strings.CutSuffix(filepath.Base(path), catalog.CardSuffix)
	if !beside {
		handler = ""
	}
	if o.agent == "" {
		name := handler
		if name == "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return fail(err)
			}
			name = filepath.Base(filepath.Dir(abs))
		}
		o.agent = agentNameOf(name)
	}
	if err := wire.CheckAgentName(o.agent); err != nil {
		return fail(fmt.Errorf("%w: choose one with --agent", err))
	}
	if o.handler == "" && handler != "" {
		o.handler = "./" + handler
	}
	if o.handler == "" {
		return fail(errors.New("name it NAME" + catalog.CardSuffix + " like the handler NAME beside it, or name the handler's file with --handler"))
	}
	doc, err := o.card()
	if err != nil {
		return fail(err)
	}
	if _, err := card.Parse(doc); err != nil {
		return fail(fmt.Errorf("that would not be a valid card: %w", err))
	}
	if err := writeNew(path, doc); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = errors.New("there is such a file already: blocksd check says whether it is a valid card")
		}
		return fail(err)
	}
	if o.asJSON {
		return a.printJSON(struct {
			Card  string `json:"card"`
			Agent string `json:"agent"`
		}{path, o.agent})
	}
	_, err = fmt.Fprintf(a.Stdout, "made %s for agent %s: edit what it says, then %s check %s\n", path, o.agent, programName(), shell.Word(path))
	return err
}

// agentNameOf is a file's name with an underscore for each character that the name of an agent cannot have.
func agentNameOf(file string) string {
	return strings.Map(func(r rune) rune {
		if wire.CheckAgentName(string(r)) != nil {
			return '_'
		}
		return r
	}, file)
}

// writeNew writes a file that must not be there yet, whole or not at all.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // it is ours, and of no use
	}
	return err
}

// The form of a card, with the members in the order in which people read them.
type (
	cardForm struct {
		Identity     cardIdentity     `json:"identity"`
		Capabilities cardCapabilities `json:"capabilities"`
		IO           cardIO           `json:"io"`
		Tags         []cardTag        `json:"tags"`
		Runtime      cardRuntime      `json:"runtime"`
	}
	cardIdentity struct {
		AgentName   string       `json:"agentName"`
		DisplayName string       `json:"displayName"`
		Description string       `json:"description"`
		Version     string       `json:"version"`
		Provider    cardProvider `json:"provider"`
	}
	cardProvider struct {
		Organization string `json:"organization"`
	}
	cardCapabilities struct {
		TaskKinds []wire.TaskKind `json:"taskKinds"`
	}
	cardIO struct {
		Inputs  []cardInput  `json:"inputs"`
		Outputs []cardOutput `json:"outputs"`
	}
	cardInput struct {
		ID          string `json:"id"`
		Description string `json:"description"`
		ContentType string `json:"contentType"`
		Required    bool   `json:"required"`
		Example     string `json:"example,omitempty"`
	}
	cardOutput struct {
		ID          string `json:"id"`
		Description string `json:"description"`
		ContentType string `json:"contentType"`
		Guaranteed  bool   `json:"guaranteed"`
	}
	cardTag struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	cardRuntime struct {
		Handler     string `json:"handler"`
		Concurrency int    `json:"concurrency"`
		MaxSeconds  int    `json:"maxRunningTimeSec"`
	}
)

func (o cardOptions) card() ([]byte, error) {
	if o.description == "" {
		o.description = "Say here what " + o.agent + " does."
	}
	const text = "text/plain"
	c := cardForm{
		Identity:     cardIdentity{o.agent, o.agent, o.description, "0.1.0", cardProvider{o.organization}},
		Capabilities: cardCapabilities{[]wire.TaskKind{wire.Request}},
		IO: cardIO{
			Inputs:  []cardInput{{ID: "request", Description: "The text.", ContentType: text, Required: true, Example: o.example}},
			Outputs: []cardOutput{{ID: "result", Description: "The answer.", ContentType: text, Guaranteed: true}},
		},
		Tags:    []cardTag{{"example", "Example"}},
		Runtime: cardRuntime{o.handler, o.concurrency, o.seconds},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(c)
	return b.Bytes(), err
}
