package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// What a change of a key needs, as the tags of the fields say.
const (
	NeedsNothing = "live"    // it counts at once
	NeedsHandler = "handler" // new processes of the handlers that it concerns
	NeedsDaemon  = "daemon"  // a restart of the daemon
)

// Change is one key that differs between two configurations.
type Change struct {
	// Key is the path of the key. Entries of lists have their name, not their index: handlers[echo].instances; the key of
	// an entry that only one of the two has is the entry: handlers[echo].
	Key   string
	Needs string
	// Old and New are the values as they would stand in a file, without secrets.
	Old, New string
}

// Changes compares two configurations, in the order of the sample file.
func Changes(before, after Config) []Change {
	old, updated := named(before), named(after)
	var out []Change
	said := map[string]bool{}
	add := func(c Change) {
		if !said[c.Key] {
			said[c.Key] = true
			out = append(out, c)
		}
	}
	for _, f := range updated.keys {
		was, ok := old.byName[f.path]
		switch {
		case !ok:
			add(Change{entryOf(f.path), f.reload, "none", "added"})
		case !reflect.DeepEqual(was.Interface(), f.value.Interface()) && !(was.Kind() == reflect.Slice && was.Len()+f.value.Len() == 0):
			if !inherits(f.path, before, after, was, f.value) {
				add(Change{f.path, f.reload, valueText(was), valueText(f.value)})
			}
		}
	}
	for _, f := range old.keys {
		if _, ok := updated.byName[f.path]; !ok {
			add(Change{entryOf(f.path), f.reload, "there", "removed"})
		}
	}
	return out
}

// byNames are the keys of a configuration with the entries of lists by their names.
type byNames struct {
	keys   []flatKey
	byName map[string]reflect.Value
}

func named(c Config) byNames {
	n := byNames{byName: map[string]reflect.Value{}}
	entry, name := "", ""
	for _, f := range flatten(c) {
		if list, rest, ok := strings.Cut(f.path, "["); ok {
			index, key, _ := strings.Cut(rest, "].")
			if at := list + index; at != entry { // the first key of an entry is its name
				entry, name = at, f.value.String()
			}
			f.path = fmt.Sprintf("%s[%s].%s", list, name, key)
		}
		n.keys = append(n.keys, f)
		n.byName[f.path] = f.value
	}
	return n
}

// entryOf is the path of the entry that a key is in.
func entryOf(path string) string {
	if at := strings.LastIndex(path, "]."); at > 0 {
		return path[:at+1]
	}
	return path
}

// inherits says whether an entry had the value of the table that it inherits the key from, before and after: then the
// change of the table says it.
func inherits(path string, before, after Config, was, is reflect.Value) bool {
	at := strings.LastIndex(path, "].")
	if at < 0 {
		return false
	}
	list, _, _ := strings.Cut(path, "[")
	l, _ := lookup(keys, list)
	i := slices.IndexFunc(l.keys, func(k key) bool { return k.name == path[at+2:] && k.inherits != "" })
	if i < 0 {
		return false
	}
	from := l.keys[i].inherits
	return reflect.DeepEqual(named(before).byName[from].Interface(), was.Interface()) &&
		reflect.DeepEqual(named(after).byName[from].Interface(), is.Interface())
}

// Applicable is the configuration that a running daemon can go over to: after, but for the keys whose change needs a
// restart of the daemon, which stay as they are before.
func Applicable(before, after Config) Config {
	keepDaemonKeys(reflect.ValueOf(before), reflect.ValueOf(&after).Elem())
	return after
}

func keepDaemonKeys(before, after reflect.Value) {
	for i := range before.NumField() {
		f := before.Type().Field(i)
		switch {
		case f.Tag.Get("reload") == NeedsDaemon:
			after.Field(i).Set(before.Field(i))
		case f.Anonymous || kindOf(f.Type) == table:
			keepDaemonKeys(before.Field(i), after.Field(i))
		}
	}
}
