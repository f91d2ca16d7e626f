// Package access is the access manager of the PubNub side of the sandbox: it issues tokens in the form that the SDKs
// parse, and decides what a token permits.
package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Right is a set of permissions on a channel.
type Right uint64

// The permissions, as bits of a token.
const (
	Read   Right = 1
	Write  Right = 2
	Manage Right = 4
	Delete Right = 8
)

// Grant is what a token permits.
type Grant struct {
	Issued time.Time
	// TTL is in whole minutes.
	TTL time.Duration
	// Channels by name; Patterns by regular expression in RE2 syntax.
	Channels map[string]Right
	Patterns map[string]Right
	// UUID, if not empty, is the only one that may use the token.
	UUID string
}

// Reasons why a token permits nothing.
var (
	ErrForged  = errors.New("token was not issued here")
	ErrExpired = errors.New("token is expired")
	ErrUUID    = errors.New("token belongs to another uuid")
)

// MaxTTL is the longest life of a token.
const MaxTTL = 43200 * time.Minute

// maxParsed bounds the tokens whose parsed form is kept.
const maxParsed = 8192

// Manager issues and checks the tokens of one keyset. It is safe for concurrent use.
type Manager struct {
	secret []byte
	now    func() time.Time
	encode cbor.EncMode
	decode cbor.DecMode

	mu     sync.RWMutex // guards parsed
	parsed map[string]*permission
}

// permission is a checked token.
type permission struct {
	expires  time.Time
	uuid     string
	channels map[string]Right
	patterns []pattern
}

type pattern struct {
	re    *regexp.Regexp
	right Right
}

// NewManager returns a manager whose tokens are signed with secret.
func NewManager(secret []byte, now func() time.Time) (*Manager, error) {
	encode, err := cbor.EncOptions{Sort: cbor.SortBytewiseLexical}.EncMode()
	if err != nil {
		return nil, fmt.Errorf("create access manager: %w", err)
	}
	decode, err := cbor.DecOptions{MaxNestedLevels: 8, MaxMapPairs: 4096}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("create access manager: %w", err)
	}
	return &Manager{secret: secret, now: now, encode: encode, decode: decode, parsed: map[string]*permission{}}, nil
}

// encodeScopes writes the rights on the five kinds of resources, of which we know one.
func (m *Manager) encodeScopes(out []byte, channels map[string]Right) ([]byte, error) {
	out = append(out, 0xa5)
	for _, name := range [...]cbor.ByteString{"chan", "grp", "spc", "usr", "uuid"} {
		rights := map[string]Right{}
		if name == "chan" && channels != nil {
			rights = channels
		}
		for _, v := range [...]any{name, rights} {
			b, err := m.encode.Marshal(v)
			if err != nil {
				return nil, err
			}
			out = append(out, b...)
		}
	}
	return out, nil
}

// Issue returns a token for g.
func (m *Manager) Issue(g Grant) (string, error) {
	minutes := uint64(g.TTL / time.Minute)
	if g.TTL < time.Minute || g.TTL > MaxTTL {
		return "", fmt.Errorf("issue token: a life of %s is not between 1 minute and %s", g.TTL, MaxTTL)
	}
	// The map is written entry by entry in the order of the real tokens, so that they start alike and the signature can
	// cover everything before it. The meta data is empty.
	type entry struct {
		key   cbor.ByteString
		value any // nil for a map of scopes
		scope map[string]Right
	}
	entries := []entry{
		{"v", uint64(2), nil}, {"t", g.Issued.Unix(), nil}, {"ttl", minutes, nil}, {"res", nil, g.Channels}, {"pat", nil, g.Patterns},
		{"meta", map[string]any{}, nil},
	}
	if g.UUID != "" {
		entries = append(entries, entry{"uuid", g.UUID, nil})
	}
	out := make([]byte, 1, 256)
	out[0] = 0xa0 | byte(len(entries)+1)
	for _, e := range entries {
		key, err := m.encode.Marshal(e.key)
		if err != nil {
			return "", fmt.Errorf("issue token: %w", err)
		}
		out = append(out, key...)
		if e.value == nil {
			if out, err = m.encodeScopes(out, e.scope); err != nil {
				return "", fmt.Errorf("issue token: %w", err)
			}
			continue
		}
		value, err := m.encode.Marshal(e.value)
		if err != nil {
			return "", fmt.Errorf("issue token: %w", err)
		}
		out = append(out, value...)
	}
	out = append(out, signaturePrefix...)
	return base64.URLEncoding.EncodeToString(append(out, m.sign(out)...)), nil
}

// signaturePrefix is the key "sig" and the head of a byte string of 32 bytes.
const signaturePrefix = "\x43sig\x58\x20"

func (m *Manager) sign(b []byte) []byte {
	mac := hmac.New(sha256.New, m.secret)
	mac.Write(b)
	return mac.Sum(nil)
}

// Check returns nil if the token may be used by uuid and gives the right on all channels. The error is ErrForged,
// ErrExpired, ErrUUID or a *DeniedError.
func (m *Manager) Check(token, uuid string, right Right, channels ...string) error {
	p, err := m.permission(token)
	if err != nil {
		return err
	}
	if !m.now().Before(p.expires) {
		return ErrExpired
	}
	if p.uuid != "" && p.uuid != uuid {
		return ErrUUID
	}
	var denied []string
	for _, channel := range channels {
		if !p.allows(channel, right) {
			denied = append(denied, channel)
		}
	}
	if denied != nil {
		return &DeniedError{Channels: denied}
	}
	return nil
}

// DeniedError names the channels on which a token lacks the right.
type DeniedError struct{ Channels []string }

func (e *DeniedError) Error() string { return fmt.Sprintf("token lacks the right on %q", e.Channels) }

func (p *permission) allows(channel string, right Right) bool {
	if p.channels[channel]&right == right {
		return true
	}
	for _, pat := range p.patterns {
		if pat.right&right == right && pat.re.MatchString(channel) {
			return true
		}
	}
	return false
}

func (m *Manager) permission(token string) (*permission, error) {
	m.mu.RLock()
	p := m.parsed[token]
	m.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	p, err := m.parse(token)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.parsed) >= maxParsed { // only a cache: the next use parses again
		clear(m.parsed)
	}
	m.parsed[token] = p
	return p, nil
}

func (m *Manager) parse(token string) (*permission, error) {
	raw, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil || strings.ContainsAny(token, "\r\n") || len(raw) < len(signaturePrefix)+sha256.Size {
		return nil, ErrForged
	}
	signed := raw[:len(raw)-sha256.Size]
	if !hmac.Equal(m.sign(signed), raw[len(signed):]) {
		return nil, ErrForged
	}
	var body map[cbor.ByteString]cbor.RawMessage
	if err := m.decode.Unmarshal(raw, &body); err != nil {
		return nil, ErrForged
	}
	var issued int64
	var ttl uint64
	var res, pat map[cbor.ByteString]map[string]Right
	p := &permission{}
	for _, field := range [...]struct {
		key cbor.ByteString
		to  any
	}{{"t", &issued}, {"ttl", &ttl}, {"res", &res}, {"pat", &pat}} {
		if err := m.decode.Unmarshal(body[field.key], field.to); err != nil {
			return nil, ErrForged
		}
	}
	if raw, ok := body["uuid"]; ok {
		if err := m.decode.Unmarshal(raw, &p.uuid); err != nil {
			return nil, ErrForged
		}
	}
	p.expires = time.Unix(issued, 0).Add(time.Duration(ttl) * time.Minute)
	p.channels = res["chan"]
	for text, right := range pat["chan"] {
		re, err := regexp.Compile(text)
		if err != nil {
			return nil, ErrForged
		}
		p.patterns = append(p.patterns, pattern{re, right})
	}
	return p, nil
}
