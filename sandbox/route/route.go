// Package route says what the path of a request is about: which endpoint it is for, which keys and channels it names,
// and which part of it is secret. The two faces of the sandbox have a table each, which serves them and answers this.
package route

import (
	"net/url"
	"slices"
	"strings"
)

// The sides of the server.
const (
	PubNub = "pubnub"
	Blocks = "blocks"
)

// Route is what a path says.
type Route struct {
	Side     string
	Endpoint string // "" for a path that has no name of its own
	Channels []string
	Keys     []string
	// Secret is the segment of the path from which on it must not be logged, 0 for none.
	Secret int
}

// Table reads paths.
type Table struct {
	// Endpoints are the names that Look gives.
	Endpoints []string
	Look      func(u *url.URL) Route
}

// Join makes one table of those of the two faces; ofBlocks says which paths are for that side.
func Join(blocks, pubnub Table, ofBlocks func(path string) bool) Table {
	names := slices.Concat(blocks.Endpoints, pubnub.Endpoints)
	slices.Sort(names)
	return Table{
		Endpoints: slices.Compact(names),
		Look: func(u *url.URL) Route {
			if ofBlocks(u.Path) {
				return blocks.Look(u)
			}
			return pubnub.Look(u)
		},
	}
}

// Names returns the names of the rows of a table, each once; "" is not a name.
func Names[R any](rows []R, name func(R) string) []string {
	var out []string
	for _, r := range rows {
		if n := name(r); n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// masked stands for a secret.
const masked = "***"

// Safe is the path and query of a request without its secrets: tokens and signatures, messages and states, and the
// paths that give access by themselves.
func (t Table) Safe(u *url.URL) string {
	path := u.EscapedPath()
	if secret := t.Look(u).Secret; secret > 0 {
		if seg := strings.SplitN(path, "/", secret+2); len(seg) == secret+2 { // the first one is before the slash
			seg[secret+1] = masked
			path = strings.Join(seg, "/")
		}
	}
	if u.RawQuery == "" {
		return path
	}
	pairs := strings.Split(u.RawQuery, "&")
	for i, pair := range pairs {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case "auth", "signature", "state", "meta", "code", "code_challenge":
			pairs[i] = name + "=" + masked
		}
	}
	return path + "?" + strings.Join(pairs, "&")
}
