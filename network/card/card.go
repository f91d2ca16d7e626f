// Package card reads agent cards: the JSON documents that describe an agent to the network. It checks every rule that
// the network has for them, reports all problems at once, and upgrades cards of the older generation.
package card

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/blocksd/blocksd/internal/textfile"
	"github.com/blocksd/blocksd/network/wire"
)

// Card is a valid agent card. Its zero value is not.
type Card struct {
	AgentName, DisplayName, Description, Version, Organization string
	TaskKinds                                                  []wire.TaskKind
	Inputs                                                     []Input
	Outputs                                                    []Output
	// Handler is runtime.handler: a path relative to the card's directory. HandlerExport is the function in it, "" for the
	// usual one of its language.
	Handler, HandlerExport string
	// Concurrency is how many tasks one instance takes at once, 1 if the card does not say.
	Concurrency int
	// ExpectedInstances defaults to 1; 0 means that tasks are broadcast to all instances.
	ExpectedInstances int
	// MaxPendingBacklog and MaxRunningTimeSec are nil when the card leaves them to the network.
	MaxPendingBacklog, MaxRunningTimeSec *int
	// Streams by their declared names.
	Streams map[string]Stream
	// Extensions is the object of that name, nil if absent.
	Extensions json.RawMessage
	// Raw is the whole document, upgraded to the newest generation.
	Raw json.RawMessage

	upgraded bool // the document was of an older generation
}

// Input is one declared input of an agent.
type Input struct {
	// ID is what callers send as partId.
	ID, Description, ContentType string
	Required                     bool
	// Example is nil if the card has none; a JSON string for text inputs.
	Example json.RawMessage
	// MaxSizeBytes of a file input, 0 if the card does not limit it.
	MaxSizeBytes int64
}

// Class says how the input travels.
func (i Input) Class() Class { return ClassOf(i.ContentType) }

// Output is one declared output of an agent.
type Output struct {
	ID, ContentType string
	Guaranteed      bool
}

// Stream is one declared stream of an agent.
type Stream struct {
	Direction string `json:"direction"` // outbound, inbound or bidirectional
	Format    string `json:"format"`    // events or bytes
	Affinity  string `json:"affinity"`  // shared or dedicated
}

// Problem is one thing that is wrong with a card.
type Problem struct {
	// Pointer is the JSON pointer of the offending value; empty for the whole document.
	Pointer string
	// Message is one sentence without the pointer.
	Message string
}

func (p Problem) String() string {
	if p.Pointer == "" {
		return p.Message
	}
	return p.Pointer + ": " + p.Message
}

// Problems is everything that is wrong with a card, in the order of the document.
type Problems []Problem

func (p Problems) Error() string {
	texts := make([]string, len(p))
	for i, one := range p {
		texts[i] = one.String()
	}
	return strings.Join(texts, "; ")
}

// Parse reads and checks a card. The error is a Problems that holds all of them. Whether runtime.handler exists is not
// checked, see CheckHandlerFile.
func Parse(doc []byte) (Card, error) {
	doc, err := textfile.Decode(doc)
	if err != nil {
		return Card{}, Problems{{"", err.Error()}}
	}
	root, err := parseDocument(doc)
	if err != nil {
		return Card{}, Problems{{"", err.Error()}}
	}
	var c checker
	upgraded := false
	doc, upgraded = upgradeSkills(doc, root)
	if c.object("", "the card", root, cardFields) {
		streamRules(&c, root)
	}
	if ps := c.problems(); ps != nil {
		return Card{}, ps
	}
	return build(doc, root, upgraded)
}

// Load is Parse of a file; its errors name the path.
func Load(path string) (Card, error) {
	doc, err := read(path)
	if os.IsNotExist(err) {
		return Card{}, fmt.Errorf("read agent card %s: there is no such file", path)
	}
	if err != nil {
		return Card{}, fmt.Errorf("read agent card: %w", err) // names the path
	}
	c, err := Parse(doc)
	if err != nil {
		return Card{}, fmt.Errorf("agent card %s is not valid: %w", path, err)
	}
	return c, nil
}

// maxFile is the largest card that is read.
const maxFile = 1 << 20

// read reads a card. A file of another kind is not opened: a pipe might never let go of its reader.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes, and a card may have %d", path, info.Size(), maxFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// cardSuffix is how the card beside a built handler is called: NAME.agent-card.json beside NAME.
const cardSuffix = ".agent-card.json"

// CheckHandlerFile returns an error unless the handler of the card at path exists: the file that runtime.handler names,
// or, for a card that stands beside a built handler, that handler.
func CheckHandlerFile(c Card, path string) error {
	dir, file := filepath.Split(path)
	// Joined even if it starts with a slash, as the network's own tool does.
	_, err := os.Stat(filepath.Join(dir, c.Handler))
	if name, beside := strings.CutSuffix(file, cardSuffix); err != nil && beside && name != "" {
		_, err = os.Stat(filepath.Join(dir, name))
	}
	if err != nil {
		return Problems{{"/runtime/handler", fmt.Sprintf("handler %q does not exist in %s: runtime.handler is a path relative to the card", c.Handler, filepath.Clean(dir))}}
	}
	return nil
}

// Warnings lists what is allowed but should be better.
func (c Card) Warnings() []Problem {
	var ps []Problem
	if c.upgraded {
		ps = append(ps, Problem{"/skills", `"skills" is the old name of "tags": rename the key, its content stays`})
	}
	if c.MaxRunningTimeSec == nil {
		ps = append(ps, Problem{"/runtime", `runtime has no "maxRunningTimeSec", so the network's default limit applies: 30 to 60 suits simple requests`})
	}
	if b := c.Blocks(); b.Listing != "public" && b.Listing != "private" || !b.BillingMode.Valid() {
		ps = append(ps, Problem{"/extensions/blocks", fmt.Sprintf("listing %q or billingMode %q is unknown: use public or private, free or paid", b.Listing, b.BillingMode)})
	}
	return ps
}

// Blocks is the object extensions.blocks, by which a card says how it wants to be registered. The authority is the
// registry; only the sandbox obeys it.
type Blocks struct {
	Listing        string           // public (default) or private
	BillingMode    wire.BillingMode // free (default) or paid
	PricePerTask   string           // decimal number, "" if not given
	PricePerMinute string
}

// Blocks returns extensions.blocks with its defaults.
func (c Card) Blocks() Blocks {
	var ext struct {
		Blocks map[string]json.RawMessage `json:"blocks"`
	}
	_ = json.Unmarshal(c.Extensions, &ext) // free-form: what does not fit counts as absent
	// A price may be a number or a text.
	member := func(key, fallback string) string {
		raw := bytes.TrimSpace(ext.Blocks[key])
		var s string
		if len(raw) == 0 || string(raw) == "null" {
			return fallback
		}
		if json.Unmarshal(raw, &s) == nil {
			return s
		}
		return string(raw)
	}
	return Blocks{
		Listing: member("listing", "public"), BillingMode: wire.BillingMode(member("billingMode", string(wire.Free))),
		PricePerTask: member("pricePerTask", ""), PricePerMinute: member("pricePerMinute", ""),
	}
}

// upgradeSkills renames the key skills of older cards to tags, in the text and in the tree.
func upgradeSkills(doc []byte, root *node) ([]byte, bool) {
	if root.get("skills") == nil || root.get("tags") != nil {
		return doc, false
	}
	for i := range root.members {
		if m := &root.members[i]; m.key == "skills" {
			m.key = "tags"
			out := append(bytes.Clone(doc[:m.start]), `"tags"`...)
			return append(out, doc[m.end:]...), true
		}
	}
	return doc, false
}

// build fills a Card from a document that passed all checks.
func build(doc []byte, root *node, upgraded bool) (Card, error) {
	var d struct {
		Identity struct {
			AgentName, DisplayName, Description, Version string
			Provider                                     struct{ Organization string }
		}
		Capabilities struct{ TaskKinds []wire.TaskKind }
		IO           struct {
			Inputs []struct {
				ID, Description, ContentType string
				Required                     bool
				Example                      json.RawMessage
			}
			Outputs []Output
		}
		Streams    map[string]Stream
		Runtime    struct{ Handler, HandlerExport string }
		Extensions json.RawMessage
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		return Card{}, Problems{{"", fmt.Sprintf("the document cannot be read: %s", err)}}
	}
	runtime := root.get("runtime")
	number := func(key string) *int {
		if v, ok := runtime.get(key).integer(); ok {
			return &v
		}
		return nil
	}
	or := func(v *int, fallback int) int {
		if v == nil {
			return fallback
		}
		return *v
	}
	c := Card{
		AgentName: d.Identity.AgentName, DisplayName: d.Identity.DisplayName, Description: d.Identity.Description,
		Version: d.Identity.Version, Organization: d.Identity.Provider.Organization, TaskKinds: d.Capabilities.TaskKinds,
		Outputs: d.IO.Outputs, Handler: d.Runtime.Handler, HandlerExport: d.Runtime.HandlerExport,
		Concurrency: or(number("concurrency"), 1), ExpectedInstances: or(number("expectedInstances"), 1),
		MaxPendingBacklog: number("maxPendingBacklog"), MaxRunningTimeSec: number("maxRunningTimeSec"),
		Streams: d.Streams, Extensions: d.Extensions, Raw: bytes.Clone(doc), upgraded: upgraded,
	}
	for i, in := range d.IO.Inputs {
		limit, _ := root.get("io").get("inputs").items[i].get("maxSizeBytes").integer()
		c.Inputs = append(c.Inputs, Input{in.ID, in.Description, in.ContentType, in.Required, in.Example, int64(limit)})
	}
	for name, s := range c.Streams {
		if s.Affinity == "" {
			s.Affinity = "dedicated"
			c.Streams[name] = s
		}
	}
	return c, nil
}
