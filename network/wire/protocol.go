// Package wire is the language of the Blocks Network: messages, channel names, limits and protocol versions. It decodes
// what arrives, validates it, and encodes what is sent. It does no I/O and reads no clock.
package wire

// ProtocolVersion is the one protocol version that this implementation speaks. There is no handshake: an instance
// announces its versions when it connects, the network pins one per task, and events carry it.
const ProtocolVersion = "2026-05-01"

// SupportsVersion reports whether a message with this protocolVersion member is understood. A message without the
// member is.
func SupportsVersion(v string) bool { return v == "" || v == ProtocolVersion }

// Limits of the network.
const (
	// MaxMessageBytes is the largest message that PubNub takes, encoded, with its channel name.
	MaxMessageBytes = 32 << 10
	// DefaultInlineLimit is the largest raw artifact that travels inside its event; ARTIFACT_INLINE_LIMIT_BYTES
	// changes it.
	DefaultInlineLimit = 16 << 10
	// MaxInlineLimit is the largest inline limit for which base64 and the envelope still fit into a message.
	MaxInlineLimit = 23 << 10
	// MaxArtifactBytes is the platform's ceiling for one file.
	MaxArtifactBytes = 1 << 30
	// MaxTextBytes bounds the error and status texts of an event, so that the event fits whatever else it carries.
	MaxTextBytes = 8 << 10
	// MaxPipeMinutes is the longest duration of a pipe task.
	MaxPipeMinutes = 43200
)

// BillingMode of an agent decides which keyset its tasks use.
type BillingMode string

// The two billing modes.
const (
	Free BillingMode = "free" // keyset "playground"
	Paid BillingMode = "paid" // keyset "network"
)

// Valid reports whether m is one of the two billing modes.
func (m BillingMode) Valid() bool { return m == Free || m == Paid }

// CutText returns s cut to at most limit bytes at a character boundary, with an ellipsis where something was cut.
func CutText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const ellipsis = "…"
	cut := limit - len(ellipsis)
	if cut < 0 {
		return ""
	}
	for cut > 0 && s[cut]&0xC0 == 0x80 { // never inside a UTF-8 sequence
		cut--
	}
	return s[:cut] + ellipsis
}

// Keyset is one of the two PubNub key pairs of a deployment.
type Keyset struct {
	PublishKey   string `json:"publishKey"`
	SubscribeKey string `json:"subscribeKey"`
}
