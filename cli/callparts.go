package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

// defaultPart is the input that --text and --json-part are for, unless the card names another.
const defaultPart = "request"

// partFlag is one part as given on the command line. All flags that give a part share one list.
type partFlag struct {
	id    string // "" for the default
	kind  partKind
	text  string // or the path of a file
	stdin bool   // what it is is still on standard input
}

type partKind int

const (
	partText partKind = iota
	partJSON
	partFile
)

// maxText bounds a text that is read from a file or from standard input, in bytes: more than any message can carry.
const maxText = 16 << 20

// errNotUTF8: JSON, in which the parts travel, would replace the bytes.
var errNotUTF8 = errors.New("the text is not valid UTF-8: put it into a file and send that with --file")

// text takes the text that is an argument of its own. It is taken as it is, but for -, which is standard input.
func (o *callOptions) text(s string) error {
	p := partFlag{kind: partText, text: s, stdin: s == stdinPath}
	if err := p.check(); err != nil {
		return usagef("call %s: %w", o.agent, err)
	}
	for _, other := range o.parts {
		if other.id == "" {
			return usagef("call %s: the text is given twice, as an argument and with --text or --json-part", o.agent)
		}
	}
	o.parts = append(o.parts, p)
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
	p := partFlag{kind: v.kind, text: s}
	if v.id {
		id, text, ok := strings.Cut(s, "=")
		if !ok || id == "" {
			return fmt.Errorf("must be %s", v.Type())
		}
		p.id, p.text = id, text
	}
	if !utf8.ValidString(p.id) {
		return errors.New("the id of the part is not valid UTF-8")
	}
	var err error
	if v.kind == partFile {
		err = p.checkFile()
	} else {
		err = p.source()
	}
	if err != nil {
		return err
	}
	for _, other := range *v.list {
		if other.id == p.id {
			return fmt.Errorf("part %s is given twice", orDefault(p.id))
		}
	}
	*v.list = append(*v.list, p)
	return nil
}

// checkFile returns what is wrong with the path of a file.
func (p *partFlag) checkFile() error {
	if p.text == stdinPath {
		p.stdin = true
		return nil
	}
	info, err := os.Stat(p.text)
	if err != nil {
		return fmt.Errorf("there is no file %s", p.text)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", p.text)
	}
	return nil
}

// source finds out where a text comes from: - is standard input, @FILE a file, @@TEXT a text that begins with @.
func (p *partFlag) source() error {
	if p.text == stdinPath {
		p.text, p.stdin = "", true
		return nil
	}
	if path, ok := strings.CutPrefix(p.text, "@"); ok && !strings.HasPrefix(path, "@") {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("there is no file %s (a text that begins with @ is written with @@)", path)
		}
		defer f.Close()
		return p.readText(f, path)
	}
	p.text = strings.TrimPrefix(p.text, "@")
	return p.check()
}

func (p *partFlag) readText(r io.Reader, name string) error {
	b, err := io.ReadAll(io.LimitReader(r, maxText+1))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", name, err)
	case len(b) > maxText:
		return fmt.Errorf("%s has more than %s: send it as a file with --file", name, bytesText(maxText))
	}
	p.text = string(b)
	return p.check()
}

// check returns what is wrong with a text.
func (p partFlag) check() error {
	if !utf8.ValidString(p.text) {
		return errNotUTF8
	}
	if p.kind == partJSON && !json.Valid([]byte(p.text)) {
		return errors.New("is not JSON")
	}
	return nil
}

func orDefault(id string) string {
	if id == "" {
		return "of --text or --json-part"
	}
	return id
}

// lookUpCard returns the registered card; known is false if this version cannot read it.
func lookUpCard(ctx context.Context, c *client.Client, agent string) (registered card.Card, known bool, err error) {
	registered, err = c.AgentCard(ctx, agent)
	if _, unreadable := errors.AsType[card.Problems](err); unreadable {
		return card.Card{}, false, nil // it may have a newer format: the usual name is the best guess
	}
	return registered, err == nil, err
}

// checkCall says why a call does not fit a card, "" if it does.
func checkCall(c card.Card, o callOptions, parts []client.Part) string {
	kind, how := wire.Request, "give a duration with --pipe"
	if o.piped {
		kind, how = wire.Pipe, "leave out --pipe"
	}
	if len(c.TaskKinds) > 0 && !slices.Contains(c.TaskKinds, kind) {
		return fmt.Sprintf("the agent takes no %s tasks: %s", kind, how)
	}
	names := slices.Sorted(maps.Keys(c.Streams))
	for _, s := range o.sends {
		declared, ok := c.Streams[s.stream]
		switch {
		case !ok && len(names) == 0:
			return fmt.Sprintf("the agent's card has no streams, so nothing can be sent into %q", s.stream)
		case !ok:
			return fmt.Sprintf("the agent's card has no stream %q%s", s.stream, hintOr(s.stream, names, ": it has "+strings.Join(names, ", ")))
		case declared.Direction == "outbound":
			return fmt.Sprintf("nothing can be sent into stream %s: only the agent writes it", s.stream)
		}
	}
	return checkParts(c.Inputs, parts)
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
