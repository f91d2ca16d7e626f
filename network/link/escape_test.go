package link

import (
	"net/url"
	"testing"

	"pgregory.net/rapid"
)

// TestEscaped: what is escaped reads as what it was, in a path and in a query, and has nothing in it that ends either.
func TestEscaped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "s"))
		got := string(appendEscaped([]byte("x="), s))[2:]
		if back, err := url.PathUnescape(got); err != nil || back != s {
			t.Fatalf("%q in a path reads as %q, %v", got, back, err)
		}
		if back, err := url.QueryUnescape(got); err != nil || back != s {
			t.Fatalf("%q in a query reads as %q, %v", got, back, err)
		}
		if parsed, err := url.Parse("http://h/" + got + "?q=" + got); err != nil || parsed.Query().Get("q") != s || parsed.Fragment != "" {
			t.Fatalf("%q in a URL: %v, %v", got, parsed, err)
		}
	})
}
