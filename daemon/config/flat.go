package config

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// flatKey is one key of a configuration with its value.
type flatKey struct {
	path   string // entries of lists by their index: handlers[0].name
	reload string // what a change needs; of an entry, that of its list
	value  reflect.Value
}

// flatten lists the keys of a configuration in the order of the sample file, those of entries of lists too.
func flatten(c Config) []flatKey { return flattenStruct("", "", reflect.ValueOf(c)) }

func flattenStruct(prefix, reload string, v reflect.Value) (out []flatKey) {
	for i := range v.NumField() {
		f, value := v.Type().Field(i), v.Field(i)
		if f.Anonymous { // its keys are those of the struct around it
			out = append(out, flattenStruct(prefix, reload, value)...)
			continue
		}
		path, class := prefix+f.Tag.Get("koanf"), f.Tag.Get("reload")
		if reload != "" { // that of the list
			class = reload
		}
		switch kindOf(f.Type) {
		case table:
			out = append(out, flattenStruct(path+".", reload, value)...)
		case tables:
			for n := range value.Len() {
				out = append(out, flattenStruct(fmt.Sprintf("%s[%d].", path, n), class, value.Index(n))...)
			}
		default:
			out = append(out, flatKey{path, class, value})
		}
	}
	return out
}

// valueText is a value as it would stand in a file, in one line. Secrets that may be in an address or in the arguments of a
// handler are hidden.
func valueText(v reflect.Value) string {
	switch v := v.Interface().(type) {
	case time.Duration:
		return v.String()
	case []string:
		texts := make([]string, len(v))
		for i, t := range withoutSecrets(v) {
			texts[i] = quoted(t)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case string:
		return quoted(publicAddress(v))
	default:
		return fmt.Sprint(v)
	}
}

// plain text needs no quotes in a file, also inside of a list.
var plain = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9/._+@=-][A-Za-z0-9/._+@=:-]*$`)
})

func quoted(s string) string {
	_, err := strconv.ParseFloat(s, 64)
	if plain().MatchString(s) && err != nil && s != "true" && s != "false" && s != "null" && s != "-" && !strings.HasSuffix(s, ":") {
		return s
	}
	return strconv.Quote(s)
}

const hidden = "(hidden)"

// publicAddress hides the password and the query of an address; everything else stays as it is.
func publicAddress(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User == nil && u.RawQuery == "" {
		return s
	}
	if u.User != nil {
		u.User = url.User("hidden")
	}
	if u.RawQuery != "" {
		u.RawQuery = "hidden"
	}
	return u.String()
}

// secretName matches the name of an argument whose value should not be shown.
var secretName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(pass(word|wd)?|secret|token|api-?_?key|credential)`)
})

// withoutSecrets hides the values of arguments that look like secrets: --token=VALUE, --token VALUE, TOKEN=VALUE.
func withoutSecrets(args []string) []string {
	out := make([]string, len(args))
	next := false
	for i, arg := range args {
		name, _, given := strings.Cut(arg, "=")
		switch {
		case next && !strings.HasPrefix(arg, "-"):
			out[i], next = hidden, false
		case secretName().MatchString(name) && given:
			out[i], next = name+"="+hidden, false
		default:
			out[i], next = publicAddress(arg), secretName().MatchString(arg) && strings.HasPrefix(arg, "-")
		}
	}
	return out
}

// With is l with other values of the same origin: those that a running daemon has kept although the files say otherwise
// come from before.
func (l Loaded) With(c Config) Loaded {
	for _, change := range Changes(l.Config, c) {
		if _, ok := lookup(keys, change.Key); ok {
			l.origins.keys = maps.Clone(l.origins.keys)
			l.origins.keys[change.Key] = Origin{Source: SourceBefore}
		}
	}
	l.Config = c
	return l
}

// IsLogLevel says whether a level may stand in the configuration.
func IsLogLevel(level string) bool {
	k, _ := lookup(keys, "log.level")
	return slices.Contains(k.oneOf, level)
}

// Value is the value of one key, with where it comes from.
type Value struct {
	Key string
	// Text is the value as it would stand in a file; a secret is hidden.
	Text   string
	Origin Origin
}

// Values lists every key in the order of the sample file. Of an entry of a list they are those that it has.
func (l Loaded) Values() []Value {
	var out []Value
	for _, f := range flatten(l.Config) {
		if origin, ok := l.origins.of(f.path); ok {
			out = append(out, Value{f.path, valueText(f.value), origin})
		}
	}
	return out
}
