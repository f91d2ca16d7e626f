package pubnub

import (
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"
)

// request is one request with its path split and its query read leniently.
type request struct {
	w     http.ResponseWriter
	r     *http.Request
	seg   []string // escaped
	query query

	path     string // escaped
	body     []byte // read and decoded, after readBody
	bodyErr  error
	bodyRead bool
	signed   bool // with the secret key of its keyset, which has been checked
}

func (q *request) get() bool { return q.r.Method == http.MethodGet }

func (q *request) post() bool { return q.r.Method == http.MethodPost }

// is compares the path with a pattern of segments in which "*" stands for any segment.
func (q *request) is(pattern ...string) bool {
	if len(q.seg) != len(pattern) {
		return false
	}
	for i, p := range pattern {
		if p != "*" && p != q.seg[i] {
			return false
		}
	}
	return true
}

// query holds the pairs of a query string in their order.
type query []pair

type pair struct{ name, value string }

// parseQuery accepts what clients really send: raw JSON, raw commas, semicolons, equal signs in values, broken escapes.
func parseQuery(raw string) query {
	if raw == "" {
		return nil
	}
	out := make(query, 0, strings.Count(raw, "&")+1)
	for raw != "" {
		var item string
		item, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(item, "=")
		if name != "" {
			out = append(out, pair{unescape(name), unescape(strings.ReplaceAll(value, "+", " "))})
		}
	}
	return out
}

// get returns the first value of a parameter, "" if there is none.
func (q query) get(name string) string {
	for _, p := range q {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// flag returns what a parameter switches on or off. Clients write 1 and 0 as well as true and false; without one of
// these it is as it is by default.
func (q query) flag(name string, byDefault bool) bool {
	switch q.get(name) {
	case "1", "true":
		return true
	case "0", "false":
		return false
	}
	return byDefault
}

// unescape decodes percent escapes; one that is broken stays as it is.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, ok1 := hexDigit(s[i+1])
			lo, ok2 := hexDigit(s[i+2])
			if ok1 && ok2 {
				b.WriteByte(hi<<4 | lo)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// names splits a list of a path: first at the commas, then decoded, because an escaped comma is part of a name. Empty
// names, of which the list "," has two, are left out.
func names(escaped string) []string {
	var out []string
	for _, part := range strings.Split(escaped, ",") {
		if part != "" {
			out = append(out, unescape(part))
		}
	}
	return out
}

// readBody reads a body of at most a message, decoding it if it is compressed. It may be called again.
func (q *request) readBody() ([]byte, error) {
	if !q.bodyRead {
		q.body, q.bodyErr = readBody(q.r)
		q.bodyRead = true
	}
	return q.body, q.bodyErr
}

func split(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

func readBody(r *http.Request) ([]byte, error) {
	var src io.Reader = io.LimitReader(r.Body, maxCompressed)
	plain := false
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		plain = true
	case "deflate": // in HTTP this means the zlib format
		z, err := zlib.NewReader(src)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		src = z
	case "gzip":
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		src = z
	default:
		return nil, errors.New("unknown content encoding")
	}
	var body []byte
	var err error
	if n := r.ContentLength; n > 0 && n <= maxMessage && plain {
		body = make([]byte, n)
		_, err = io.ReadFull(src, body)
	} else {
		body, err = io.ReadAll(io.LimitReader(src, maxMessage+1))
	}
	if err != nil {
		return nil, err
	}
	if len(body) > maxMessage {
		return nil, errTooLarge
	}
	return body, nil
}
