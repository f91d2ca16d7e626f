package link

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// maxToken bounds the tokens that are looked into. A real one has less than 2 KiB.
const maxToken = 64 << 10

// TokenLife returns when a token of the network's access manager was issued and when it ends, by the network's clock. It
// does not check the signature, which only the network can. ok is false for a token that is not of the form that is
// known; such a token is used all the same, until it is refused.
func TokenLife(token string) (issued, expires time.Time, ok bool) {
	if token == "" || len(token) > maxToken {
		return time.Time{}, time.Time{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(token), "="))
	if err != nil {
		return time.Time{}, time.Time{}, false
	}
	// The keys are byte strings, which no struct tag matches.
	var members map[cbor.ByteString]cbor.RawMessage
	if decodeToken.Unmarshal(raw, &members) != nil {
		return time.Time{}, time.Time{}, false
	}
	var at, minutes uint64
	if decodeToken.Unmarshal(members["t"], &at) != nil || decodeToken.Unmarshal(members["ttl"], &minutes) != nil {
		return time.Time{}, time.Time{}, false
	}
	const year = 365 * 24 * 60
	if at > 1<<40 || minutes == 0 || minutes > 10*year {
		return time.Time{}, time.Time{}, false
	}
	issued = time.Unix(int64(at), 0)
	return issued, issued.Add(time.Duration(minutes) * time.Minute), true
}

var decodeToken = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxNestedLevels: 8, MaxMapPairs: 4096, MaxArrayElements: 4096}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()
