package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

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

// errNotUTF8: JSON, in which the parts travel, would replace the bytes.
var errNotUTF8 = errors.New("the text is not valid UTF-8: put it into a file and send that with --file")

// text takes the text that is an argument of its own.
func (o *callOptions) text(s string) error {
	if !utf8.ValidString(s) {
		return usagef("call %s: %w", o.agent, errNotUTF8)
	}
	for _, other := range o.parts {
		if other.id == "" {
			return usagef("call %s: the text is given twice, as an argument and with --text or --json-part", o.agent)
		}
	}
	o.parts = append(o.parts, partFlag{kind: partText, text: s})
	return nil
}

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
	if v.kind != partFile && !utf8.ValidString(s) {
		return errNotUTF8
	}
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

// lookUpInputs returns the inputs of the registered card; known is false if this version cannot read the card.
func lookUpInputs(ctx context.Context, c *client.Client, agent string) (inputs []card.Input, known bool, err error) {
	registered, err := c.AgentCard(ctx, agent)
	if _, unreadable := errors.AsType[card.Problems](err); unreadable {
		return nil, false, nil // it may have a newer format: the usual name is the best guess
	}
	return registered.Inputs, err == nil, err
}

// checkParts says why the parts do not fit the inputs of a card, "" if they do. A card without inputs says nothing about
// them.
func checkParts(inputs []card.Input, parts []client.Part) string {
	if len(inputs) == 0 {
		return ""
	}
	ids := make([]string, len(inputs))
	for i, in := range inputs {
		ids[i] = in.ID
	}
	given := map[string]bool{}
	for _, p := range parts {
		given[p.ID] = true
		i := slices.Index(ids, p.ID)
		if i < 0 {
			return fmt.Sprintf("the agent's card has no input %q%s", p.ID, hintOr(p.ID, ids, ": it has "+strings.Join(ids, ", ")))
		}
		in, file := inputs[i], p.IsFile()
		switch class := in.Class(); {
		case class == card.File && !file:
			return fmt.Sprintf("input %s is a file (%s): use --file", in.ID, in.ContentType)
		case class == card.Form && file:
			return fmt.Sprintf("input %s is JSON (%s), not a file: use %s", in.ID, in.ContentType, flagOf(class))
		case class == card.Text && file:
			return fmt.Sprintf("input %s is text (%s), not a file: use %s", in.ID, in.ContentType, flagOf(class))
		}
	}
	for _, in := range inputs {
		if in.Required && !given[in.ID] {
			return fmt.Sprintf("the agent needs input %s (%s): give it with %s", in.ID, in.ContentType, flagOf(in.Class()))
		}
	}
	return ""
}

// flagOf names the flags that give an input of a class.
func flagOf(class card.Class) string {
	switch class {
	case card.File:
		return "--file"
	case card.Form:
		return "--json-part or --part"
	}
	return "--text or --part"
}

// checkWritable makes a directory, if there is none, and returns why no file can be written there.
func checkWritable(dir string) error {
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".blocksd-*"); err == nil {
			return errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err // the sentence names the directory
	}
	return err
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
