package card

import (
	"fmt"
	"strings"
)

// Inputs: which members an input may have depends on the class of its content type.

// MaxInputBytes is the largest maxSizeBytes that a card may name.
const MaxInputBytes = 25 << 20

var inputFields = []field{
	{"id", true, nonEmptyString}, {"description", true, nonEmptyString}, {"contentType", true, contentType}, {"required", true, isBool},
	{"example", false, nil}, {"schema", false, isObject}, {"accept", false, accept}, {"maxSizeBytes", false, integer(1, MaxInputBytes)},
}

func inputs(c *checker, ptr string, n *node) {
	each(func(c *checker, ptr string, n *node) {
		if c.object(ptr, "an input", n, inputFields) {
			classRules(c, ptr, n)
		}
	})(c, ptr, n)
	uniqueIDs(c, ptr, n)
}

// permission of a class for one member of an input.
type permission int

const (
	optional permission = iota
	required
	forbidden
)

// classTable: class → schema, example, accept, maxSizeBytes.
var classTable = map[Class]map[string]permission{
	Form: {"schema": required, "example": required, "accept": forbidden, "maxSizeBytes": forbidden},
	Text: {"schema": forbidden, "example": optional, "accept": forbidden, "maxSizeBytes": forbidden},
	File: {"schema": forbidden, "example": optional, "accept": optional, "maxSizeBytes": optional},
}

func classRules(c *checker, ptr string, n *node) {
	ct := n.get("contentType")
	if ct == nil || ct.kind != kindString {
		return
	}
	if contradictory(ct.text) {
		c.add(ct.at, ptr+"/contentType", "content type %q cannot be an input, because it counts as a form and as a text: use application/json or text/plain", ct.text)
		return
	}
	class := ruleClass(ct.text)
	table, ok := classTable[class]
	if !ok {
		return
	}
	for _, key := range []string{"schema", "example", "accept", "maxSizeBytes"} {
		v := n.get(key)
		switch {
		case table[key] == required && v == nil:
			c.add(n.at, ptr, "a form input (content type %s) lacks the required key %q", ct.text, key)
		case table[key] == forbidden && v != nil:
			c.add(v.at, pointer(ptr, key), "a %s input (content type %s) must not have %q", class, ct.text, key)
		}
	}
	if class == Text {
		if ex := n.get("example"); ex != nil {
			c.is(ptr+"/example", "the example of a text input", ex, kindString)
		}
	}
	if class == Form {
		if s := n.get("schema"); s != nil && s.kind == kindObject {
			formSchema(c, ptr+"/schema", s)
		}
	}
}

func accept(c *checker, ptr string, n *node) {
	each(func(c *checker, ptr string, n *node) {
		if c.is(ptr, "an item of accept", n, kindString) && !acceptRanges[n.text] && !knownContentType(n.text) {
			c.add(n.at, ptr, "accept names %q, which is no known content type and none of text/*, image/*, audio/*, video/*", n.text)
		}
	})(c, ptr, n)
}

// The schema of a form is a small closed part of JSON Schema.

var schemaTypes = []string{"string", "number", "integer", "boolean", "object", "array", "null"}

func formSchema(c *checker, ptr string, n *node) {
	c.members(ptr, "the schema of a form input", n, []field{
		{"type", true, oneOf("object")},
		{"title", false, isString},
		{"description", false, isString},
		{"required", false, stringsOf("a name in required")},
		{"properties", true, properties},
	}, false)
}

func properties(c *checker, ptr string, n *node) {
	if !c.is(ptr, "properties", n, kindObject) {
		return
	}
	for _, m := range n.members {
		property(c, pointer(ptr, m.key), m.value)
	}
}

func property(c *checker, ptr string, n *node) {
	c.object(ptr, fmt.Sprintf("the property %q of a form schema", strings.NewReplacer("~1", "/", "~0", "~").Replace(last(ptr))), n, []field{
		{"type", true, oneOf(schemaTypes...)},
		{"title", false, isString},
		{"description", false, isString},
		{"default", false, nil},
		{"enum", false, isArray},
		{"const", false, nil},
		{"required", false, nil}, // a list of names in an object, a boolean elsewhere
		{"minimum", false, isNumber},
		{"maximum", false, isNumber},
		{"minItems", false, integer(0, 0)},
		{"maxItems", false, integer(0, 0)},
		{"properties", false, properties},
		{"items", false, property},
	})
}
