package config

import (
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

type kind int

const (
	text     kind = iota
	duration      // 30s, 1m30s
	count         // whole number
	share         // number from 0 to 1
	truth         // true or false
	texts         // list of strings
	table         // keys below
	tables        // list of entries with the keys below
)

// key is one key of the configuration, as the tags of its field in Config describe it.
type key struct {
	name   string
	kind   kind
	def    any    // typed default, nil for none
	reload string // what a change needs
	doc    string // lines of the sample file
	env    string // second variable
	keys   []key  // of a table, or of each entry of a list

	inherits string // path of the key whose value an entry has that leaves this one out

	oneOf    []string      // allowed strings, nil for any
	min, max int           // of a count
	positive bool          // a duration that must not be 0
	longest  time.Duration // of a duration, 0 for no bound
	required bool          // in an entry of a list
	path     bool          // paths that are made absolute
}

// keys is every key there is.
var keys = keysOf(reflect.TypeFor[Config](), false)

// leastOfEntry is the least number in an entry of a list: there 0 stands for a key that was left out.
const leastOfEntry = 1

// keysOf reads the tags of a struct; entry is true for an entry of a list. A bad tag is a fault of the program, so it
// panics, which fails every test.
func keysOf(t reflect.Type, entry bool) []key {
	var ks []key
	for f := range t.Fields() {
		if !f.Anonymous {
			ks = append(ks, keyOf(f, entry))
			continue
		}
		for _, k := range keysOf(f.Type, false) {
			if table := f.Tag.Get("inherits"); table != "" {
				k.inherits = table + "." + k.name
				k.def, k.reload, k.doc = nil, "", "default: "+k.inherits
				k.min = max(k.min, leastOfEntry)
			}
			ks = append(ks, k)
		}
	}
	return ks
}

func keyOf(f reflect.StructField, entry bool) key {
	tag := func(name string) string { return f.Tag.Get(name) }
	k := key{
		name: tag("koanf"), kind: kindOf(f.Type), reload: tag("reload"), doc: tag("doc"), env: tag("env"),
		positive: tag("positive") == "true", required: tag("required") == "true", path: tag("path") == "true",
		max: math.MaxInt32,
	}
	if tag("oneof") != "" {
		k.oneOf = strings.Split(tag("oneof"), ",")
	}
	var err error
	switch k.kind {
	case table:
		k.keys = keysOf(f.Type, entry)
		return k
	case tables:
		k.keys, k.def = keysOf(f.Type.Elem(), true), []any{}
		return k
	case count:
		if entry {
			k.min = leastOfEntry
		}
		if tag("min") != "" {
			k.min, err = strconv.Atoi(tag("min"))
		}
		if tag("max") != "" && err == nil {
			k.max, err = strconv.Atoi(tag("max"))
		}
	case duration:
		if tag("max") != "" {
			k.longest, err = time.ParseDuration(tag("max"))
		}
	}
	if err != nil {
		panic(fmt.Sprintf("tags of the key %s: %s", k.name, err))
	}
	if def, ok := f.Tag.Lookup("default"); ok || !entry {
		var why string
		if k.def, why = k.parse(def); why != "" {
			panic(fmt.Sprintf("the default of the key %s %s", k.name, why))
		}
	}
	return k
}

func kindOf(t reflect.Type) kind {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return duration
	case t == reflect.TypeFor[[]string]():
		return texts
	case t.Kind() == reflect.String:
		return text
	case t.Kind() == reflect.Int:
		return count
	case t.Kind() == reflect.Float64:
		return share
	case t.Kind() == reflect.Bool:
		return truth
	case t.Kind() == reflect.Struct:
		return table
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return tables
	}
	panic(fmt.Sprintf("no key of the configuration can be a %s", t))
}

// lookup finds a key by its dotted path; keys inside entries of lists are not found.
func lookup(ks []key, path string) (key, bool) {
	name, rest, deeper := strings.Cut(path, ".")
	i := slices.IndexFunc(ks, func(k key) bool { return k.name == name })
	switch {
	case i < 0 || deeper && ks[i].kind != table:
		return key{}, false
	case deeper:
		return lookup(ks[i].keys, rest)
	}
	return ks[i], true
}

// leaves calls each for every key that holds a value, with its dotted path, in the order of the fields.
func leaves(prefix string, ks []key, each func(path string, k key)) {
	for _, k := range ks {
		if k.kind == table {
			leaves(prefix+k.name+".", k.keys, each)
		} else {
			each(prefix+k.name, k)
		}
	}
}

// paths lists the dotted paths of all keys that hold a value.
func paths() []string {
	var out []string
	leaves("", keys, func(path string, _ key) { out = append(out, path) })
	return out
}

func names(ks []key) []string {
	out := make([]string, len(ks))
	for i, k := range ks {
		out[i] = k.name
	}
	return out
}

// parse converts a value, as text or typed, to the type of the key. why ends a sentence that begins with the name of the
// key; it is empty on success.
func (k key) parse(v any) (typed any, why string) {
	s, isText := v.(string)
	switch k.kind {
	case text:
		if !isText {
			return nil, fmt.Sprintf("must be a string, not %v", v)
		}
		if k.oneOf != nil && !slices.Contains(k.oneOf, s) {
			return nil, fmt.Sprintf("must be %s, not %q", orList(k.oneOf), s)
		}
		return s, ""
	case duration:
		return k.parseDuration(v)
	case count:
		n, err := strconv.Atoi(fmt.Sprint(v))
		if err != nil {
			return nil, fmt.Sprintf("must be a whole number, not %q", fmt.Sprint(v))
		}
		if n < k.min || n > k.max {
			return nil, fmt.Sprintf("must be from %d to %d, not %d", k.min, k.max, n)
		}
		return n, ""
	case share:
		f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
		if err != nil || !(f >= 0 && f <= 1) { // nor what is no number
			return nil, fmt.Sprintf("must be a number from 0 to 1, not %q", fmt.Sprint(v))
		}
		return f, ""
	case truth:
		b, ok := v.(bool)
		if !ok && s != "true" && s != "false" {
			return nil, fmt.Sprintf("must be true or false, not %q", fmt.Sprint(v))
		}
		return b || s == "true", ""
	case texts:
		return parseTexts(v)
	}
	return nil, "must be written in the configuration file"
}

func (k key) parseDuration(v any) (typed any, why string) {
	d, ok := v.(time.Duration)
	if !ok {
		var err error
		if d, err = time.ParseDuration(fmt.Sprint(v)); err != nil {
			return nil, fmt.Sprintf("must be a duration with a unit, such as 30s or 1m30s, not %q", fmt.Sprint(v))
		}
	}
	switch {
	case d < 0 && !k.positive:
		return nil, fmt.Sprintf("must not be negative, but is %s", d)
	case d <= 0 && k.positive:
		return nil, fmt.Sprintf("must be more than 0, not %s", d)
	case k.longest != 0 && d > k.longest:
		return nil, fmt.Sprintf("must be at most %s, not %s", k.longest, d)
	}
	return d, ""
}

func parseTexts(v any) (typed any, why string) {
	switch l := v.(type) {
	case []string:
		return l, ""
	case string: // of a variable: separated by commas
		return slices.DeleteFunc(strings.Split(l, ","), func(s string) bool { return s == "" }), ""
	case []any:
		out := make([]string, 0, len(l))
		for _, e := range l {
			t, ok := e.(string)
			if !ok {
				return nil, fmt.Sprintf("must be a list of strings, but one is %v", e)
			}
			out = append(out, t)
		}
		return out, ""
	}
	return nil, fmt.Sprintf("must be a list of strings, not %v", v)
}

// workDir stands for the working directory of the process.
const workDir = "."

// absolute makes the paths of a parsed value absolute, relative to dir: handlers run in other directories than the daemon.
// An empty path stays empty.
func (k key) absolute(typed any, dir string) any {
	if !k.path {
		return typed
	}
	resolve := func(p string) string {
		if p == "" {
			return ""
		}
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		if abs, err := filepath.Abs(p); err == nil { // it fails only in a working directory that was removed
			p = abs
		}
		return p
	}
	switch v := typed.(type) {
	case string:
		return resolve(v)
	case []string:
		out := make([]string, len(v))
		for i, p := range v {
			out[i] = resolve(p)
		}
		return out
	}
	return typed
}

func orList(l []string) string {
	return strings.Join(l[:len(l)-1], ", ") + " or " + l[len(l)-1]
}
