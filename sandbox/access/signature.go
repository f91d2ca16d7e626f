package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// Signed is a request that its sender has signed with the secret key of a keyset, which permits everything.
type Signed struct {
	Method                   string
	PublishKey, SubscribeKey string
	// Path as it was sent, still escaped. Query holds the pairs but the signature, sorted by name, their values encoded
	// by EncodeQuery; Body is uncompressed.
	Path, Query string
	Body        []byte
	Signature   string
}

// VerifySignature reports whether a request was signed with secret. POST publishes are signed in other ways too, each
// by some SDK: in the first version, which covers neither the method nor the body, and as if they were a GET without
// a body.
func VerifySignature(secret string, r Signed) bool {
	sign := func(parts ...string) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(strings.Join(parts, "\n")))
		return mac.Sum(nil)
	}
	v2 := func(method, path, body string) string {
		return "v2." + base64.RawURLEncoding.EncodeToString(sign(method, r.PublishKey, path, r.Query, body))
	}
	var good []string
	// One SDK signs some paths escaped once more than it sends them.
	for _, path := range [...]string{r.Path, strings.ReplaceAll(r.Path, "%", "%25")} {
		good = append(good, v2(r.Method, path, string(r.Body)))
		if r.Method == "POST" && strings.HasPrefix(r.Path, "/publish/") {
			good = append(good, v2("GET", path, ""), base64.URLEncoding.EncodeToString(sign(r.SubscribeKey, r.PublishKey, path, r.Query)))
		}
	}
	for _, s := range good {
		if hmac.Equal([]byte(r.Signature), []byte(s)) {
			return true
		}
	}
	return false
}

// EncodeQuery encodes the value of a parameter for a signature: everything but letters, digits, "_", "." and "-".
func EncodeQuery(s string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}
