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

// VerifySignature reports whether a request was signed with secret, in either version. The first version is what two
// SDKs use for POST publishes; it covers neither the method nor the body.
func VerifySignature(secret string, r Signed) bool {
	sign := func(path string) (v1, v2 string) {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(r.SubscribeKey + "\n" + r.PublishKey + "\n" + path + "\n" + r.Query))
		v1 = base64.URLEncoding.EncodeToString(mac.Sum(nil))
		mac.Reset()
		mac.Write([]byte(r.Method + "\n" + r.PublishKey + "\n" + path + "\n" + r.Query + "\n"))
		mac.Write(r.Body)
		return v1, "v2." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	// One SDK signs some paths escaped once more than it sends them.
	for _, path := range [...]string{r.Path, strings.ReplaceAll(r.Path, "%", "%25")} {
		v1, v2 := sign(path)
		if hmac.Equal([]byte(r.Signature), []byte(v2)) {
			return true
		}
		if r.Method == "POST" && strings.HasPrefix(r.Path, "/publish/") && hmac.Equal([]byte(r.Signature), []byte(v1)) {
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
