// Package access is the access manager of the PubNub side of the sandbox: it issues tokens in the form that the SDKs
// parse, and decides what a token permits.
package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
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
	Create Right = 16
	Get    Right = 32
	Update Right = 64
	Join   Right = 128

	allRights = Read | Write | Manage | Delete | Create | Get | Update | Join
)

// Grant is what a token permits.
type Grant struct {
	Issued time.Time
	// TTL is in whole minutes.
	TTL time.Duration
	// Channels by name; Patterns by regular expression in RE2 syntax.
	Channels map[string]Right
	Patterns map[string]Right
	// Groups, and GroupPatterns, are the same for channel groups; UUIDs and UUIDPatterns for user ids.
	Groups, GroupPatterns map[string]Right
	UUIDs, UUIDPatterns   map[string]Right
	// Spaces and users are carried in the token and permit nothing.
	Spaces, SpacePatterns map[string]Right
	Users, UserPatterns   map[string]Right
	// Meta is carried in the token.
	Meta map[string]any
	// UUID, if not empty, is the only one that may use the token.
	UUID string
}

// Reasons why a token is not accepted.
var (
	ErrForged  = errors.New("token was not issued here")
	ErrExpired = errors.New("token is expired")
	ErrUUID    = errors.New("token belongs to another uuid")
	ErrRevoked = errors.New("token is revoked")
)

// MaxTTL is the longest life of a token.
const MaxTTL = 43200 * time.Minute

// maxParsed is after how many parsed tokens those that were not used meanwhile are dropped.
const maxParsed = 1024

// Manager issues and checks the tokens of one keyset. It is safe for concurrent use.
type Manager struct {
	secret []byte
	now    func() time.Time
	encode cbor.EncMode
	decode cbor.DecMode

	onRevoke func()

	mu      sync.RWMutex           // guards all below
	parsed  map[string]*permission // used lately
	older   map[string]*permission // used before
	revoked map[string]time.Time   // by token: until when it must be remembered
	watched map[string]*watch
	soonest time.Time // when the first watched token expires, or before
}

// permission is a checked token.
type permission struct {
	expires  time.Time
	uuid     string
	channels scope
	groups   scope
}

// scope is what a token permits on one kind of resource.
type scope struct {
	names    map[string]Right
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
	return &Manager{secret: secret, now: now, encode: encode, decode: decode, parsed: map[string]*permission{},
		revoked: map[string]time.Time{}, watched: map[string]*watch{}, onRevoke: func() {}}, nil
}

// scopeNames are the kinds of resources, in the order of a real token.
var scopeNames = [...]cbor.ByteString{"chan", "grp", "spc", "usr", "uuid"}

// encodeScopes writes the rights on the five kinds of resources.
func (m *Manager) encodeScopes(out []byte, scopes [len(scopeNames)]map[string]Right) ([]byte, error) {
	out = append(out, 0xa0|byte(len(scopeNames)))
	for i, name := range scopeNames {
		rights := scopes[i]
		if rights == nil {
			rights = map[string]Right{}
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
	// cover everything before it.
	type scopes = [len(scopeNames)]map[string]Right
	type entry struct {
		key   cbor.ByteString
		value any
	}
	meta := g.Meta
	if meta == nil {
		meta = map[string]any{}
	}
	entries := []entry{
		{"v", uint64(2)}, {"t", g.Issued.Unix()}, {"ttl", minutes},
		{"res", scopes{g.Channels, g.Groups, g.Spaces, g.Users, g.UUIDs}},
		{"pat", scopes{g.Patterns, g.GroupPatterns, g.SpacePatterns, g.UserPatterns, g.UUIDPatterns}},
		{"meta", meta},
	}
	if g.UUID != "" {
		entries = append(entries, entry{"uuid", g.UUID})
	}
	out := make([]byte, 1, 256)
	out[0] = 0xa0 | byte(len(entries)+1)
	for _, e := range entries {
		key, err := m.encode.Marshal(e.key)
		if err != nil {
			return "", fmt.Errorf("issue token: %w", err)
		}
		out = append(out, key...)
		if s, ok := e.value.(scopes); ok {
			if out, err = m.encodeScopes(out, s); err != nil {
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
	token := base64.URLEncoding.EncodeToString(append(out, m.sign(out)...))
	if len(g.Patterns)+len(g.GroupPatterns) == 0 { // as of all tokens of tasks: their first use need not parse them
		m.keep(token, &permission{
			uuid: g.UUID, expires: time.Unix(g.Issued.Unix(), 0).Add(time.Duration(minutes) * time.Minute),
			channels: scope{names: maps.Clone(g.Channels)}, groups: scope{names: maps.Clone(g.Groups)},
		})
	}
	return token, nil
}

// signaturePrefix is the key "sig" and the head of a byte string of 32 bytes.
const signaturePrefix = "\x43sig\x58\x20"

func (m *Manager) sign(b []byte) []byte {
	mac := hmac.New(sha256.New, m.secret)
	mac.Write(b)
	return mac.Sum(nil)
}

// Check returns nil if the token may be used by uuid and gives the right on all channels. The error is ErrForged,
// ErrExpired, ErrRevoked, ErrUUID or a *DeniedError.
func (m *Manager) Check(token, uuid string, right Right, channels ...string) error {
	return m.CheckAll(token, uuid, right, channels, nil)
}

// CheckAll is Check for channels and channel groups.
func (m *Manager) CheckAll(token, uuid string, right Right, channels, groups []string) error {
	p, err := m.valid(token)
	if err != nil {
		return err
	}
	if p.uuid != "" && p.uuid != uuid {
		return ErrUUID
	}
	denied := &DeniedError{}
	for _, channel := range channels {
		if !p.channels.allows(channel, right) {
			denied.Channels = append(denied.Channels, channel)
		}
	}
	for _, group := range groups {
		if !p.groups.allows(group, right) {
			denied.Groups = append(denied.Groups, group)
		}
	}
	if denied.Channels != nil || denied.Groups != nil {
		return denied
	}
	return nil
}

// valid returns what a token permits now.
func (m *Manager) valid(token string) (*permission, error) {
	p, err := m.permission(token)
	if err != nil {
		return nil, err
	}
	if !m.now().Before(p.expires) {
		return nil, ErrExpired
	}
	m.mu.RLock()
	_, revoked := m.revoked[token]
	m.mu.RUnlock()
	if revoked {
		return nil, ErrRevoked
	}
	return p, nil
}

// Now is the clock of the manager.
func (m *Manager) Now() time.Time { return m.now() }

// DeniedError names the channels and channel groups on which a token lacks the right.
type DeniedError struct{ Channels, Groups []string }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("token lacks the right on %q", append(slices.Clone(e.Channels), e.Groups...))
}

func (s scope) allows(name string, right Right) bool {
	if s.names[name]&right == right {
		return true
	}
	for _, pat := range s.patterns {
		if pat.right&right == right && pat.re.MatchString(name) {
			return true
		}
	}
	return false
}

func (m *Manager) permission(token string) (*permission, error) {
	m.mu.RLock()
	p, old := m.parsed[token], m.older[token]
	m.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	if p = old; p == nil {
		var err error
		if p, err = m.parse(token); err != nil {
			return nil, err
		}
	}
	m.keep(token, p)
	return p, nil
}

// keep remembers what a token says for its next use.
func (m *Manager) keep(token string, p *permission) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.parsed) >= maxParsed { // only a cache: the next use parses again
		m.parsed, m.older = map[string]*permission{}, m.parsed
	}
	m.parsed[token] = p
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
	for kind, s := range map[cbor.ByteString]*scope{"chan": &p.channels, "grp": &p.groups} {
		s.names = res[kind]
		for text, right := range pat[kind] {
			re, err := regexp.Compile(text)
			if err != nil {
				return nil, ErrForged
			}
			s.patterns = append(s.patterns, pattern{re, right})
		}
	}
	return p, nil
}
