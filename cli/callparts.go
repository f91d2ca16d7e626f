package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/card"
)

// defaultPart is the input that --text and --json-part are for, unless the card names another.
const defaultPart = "request"

// partFlag is one part as given on the command line. All flags that give a part share one list.
type partFlag struct {
	id   string // "" for the default
	kind partKind
	text string // or the path of a file
}

type partKind int

const (
	partText partKind = iota
	partJSON
	partFile
)

// partValue is the pflag.Value of a flag that appends to that list: the order of the parts matters.
type partValue struct {
	list *[]partFlag
	kind partKind
	id   bool // the value starts with ID=
}

func (v partValue) String() string { return "" }
func (v partValue) Type() string {
	switch {
	case v.kind == partFile:
		return "ID=PATH"
	case v.id:
		return "ID=TEXT"
	case v.kind == partJSON:
		return "JSON"
	}
	return "TEXT"
}

func (v partValue) Set(s string) error {
	p := partFlag{kind: v.kind, text: s}
	if v.id {
		id, text, ok := strings.Cut(s, "=")
		if !ok || id == "" {
			return fmt.Errorf("must be %s", v.Type())
		}
		p.id, p.text = id, text
	}
	switch {
	case v.kind == partJSON && !json.Valid([]byte(s)):
		return errors.New("is not JSON")
	case v.kind == partFile:
		info, err := os.Stat(p.text)
		if err != nil {
			return fmt.Errorf("there is no file %s", p.text)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", p.text)
		}
	}
	for _, other := range *v.list {
		if other.id == p.id {
			return fmt.Errorf("part %s is given twice", orDefault(p.id))
		}
	}
	*v.list = append(*v.list, p)
	return nil
}

func orDefault(id string) string {
	if id == "" {
		return "of --text or --json-part"
	}
	return id
}

// lookUpInputs returns the inputs of the registered card; none if this version cannot read the card.
func lookUpInputs(ctx context.Context, c *client.TaskClient, agent string) ([]card.Input, error) {
	registered, err := c.AgentCard(ctx, agent)
	if _, unreadable := errors.AsType[card.Problems](err); unreadable {
		return nil, nil // it may have a newer format: the usual name is the best guess
	}
	return registered.Inputs, err
}

// defaultInput is the id of the input that --text or --json-part is for.
func defaultInput(inputs []card.Input, kind partKind) string {
	order := []card.Class{card.Text, card.Form}
	if kind == partJSON {
		order = []card.Class{card.Form, card.Text}
	}
	for _, in := range inputs {
		if in.ID == defaultPart {
			return defaultPart
		}
	}
	for _, class := range order {
		for _, in := range inputs {
			if in.Class() == class {
				return in.ID
			}
		}
	}
	return defaultPart
}
