package wire

import (
	"encoding/json"
	"fmt"
	"strings"
)

// SetupPhase says what a setup request asks for.
type SetupPhase string

// The phases.
const (
	// PhaseEmbedded: the provider gets its token and the consumer learns of the stream.
	PhaseEmbedded SetupPhase = "embedded"
	// PhaseTokenRequest: the provider gets the token only. It starts an external stream.
	PhaseTokenRequest SetupPhase = "token_request"
	// PhaseActivate: the consumer learns of the stream. It completes an external stream, and attaches a further task to
	// a shared one.
	PhaseActivate SetupPhase = "activate"
)

// grants reports whether the answer to the phase holds a token.
func (p SetupPhase) grants() bool { return p == PhaseEmbedded || p == PhaseTokenRequest }

// StreamSetup asks the network for a stream. It is published on the task's setup channel with the task's write token,
// without metadata, and not stored.
type StreamSetup struct {
	TaskID, OrgID, AgentName, StreamID string
	Direction                          StreamDirection
	Format                             StreamFormat
	Affinity                           StreamAffinity
	TaskKind                           TaskKind
	DurationMinutes                    int
	// Declared is the key in the agent's card.
	Declared string
	Phase    SetupPhase
	// Metadata is a JSON object for the consumer; nil for none.
	Metadata json.RawMessage
}

// Encode writes the request. An error means that it can never be answered well.
func (s StreamSetup) Encode() ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("encode the setup request of stream %s: %w", CutText(s.StreamID, 64), err)
	}
	if err := CheckStreamChannel(s.AgentName, s.StreamID); err != nil {
		return fail(err)
	}
	if s.Metadata != nil && (!json.Valid(s.Metadata) || s.Metadata[0] != '{') {
		return fail(fmt.Errorf("the metadata is not a JSON object"))
	}
	if s.DurationMinutes < 1 {
		return fail(fmt.Errorf("the duration of %d minutes is not at least one minute", s.DurationMinutes))
	}
	b, err := encode(struct {
		Type            string          `json:"type"`
		ProtocolVersion string          `json:"protocolVersion"`
		TaskID          string          `json:"taskId"`
		OrgID           string          `json:"orgId"`
		AgentName       string          `json:"agentName"`
		StreamID        string          `json:"streamId"`
		Channel         string          `json:"channel"`
		Direction       StreamDirection `json:"direction"`
		Format          StreamFormat    `json:"format"`
		Affinity        StreamAffinity  `json:"affinity"`
		TaskKind        TaskKind        `json:"taskKind"`
		DurationMinutes int             `json:"durationMinutes"`
		DeclaredStream  string          `json:"declaredStream"`
		Phase           SetupPhase      `json:"phase"`
		Metadata        json.RawMessage `json:"metadata,omitempty"`
	}{
		"stream_setup", ProtocolVersion, s.TaskID, s.OrgID, s.AgentName, s.StreamID, StreamChannel(s.AgentName, s.StreamID), s.Direction, s.Format,
		s.Affinity, s.TaskKind, s.DurationMinutes, s.Declared, s.Phase, s.Metadata,
	})
	if err != nil {
		return fail(err)
	}
	if n := len(b) + len(SetupChannel(s.OrgID, s.TaskID)); n > MaxMessageBytes {
		return fail(fmt.Errorf("it has %d bytes, more than the %d of a message: use less metadata", n, MaxMessageBytes))
	}
	return b, nil
}

// StreamGrant is what the network grants for a stream.
type StreamGrant struct {
	TaskID, StreamID, Channel string
	Direction                 StreamDirection
	Phase                     SetupPhase
	// Token permits the provider's side of the stream; empty after PhaseActivate.
	Token string
	// TTLMinutes is how long the token lives.
	TTLMinutes int
}

// SetupOutcome says why a setup request brought no stream.
type SetupOutcome string

// The ways in which a setup request fails.
const (
	// SetupRefused: the network's function says no, with a code and a message.
	SetupRefused SetupOutcome = "refused"
	// SetupDenied: the token may not ask.
	SetupDenied SetupOutcome = "denied"
	// SetupNotIntercepted: the request was published as an ordinary message.
	SetupNotIntercepted SetupOutcome = "not_intercepted"
	// SetupMalformed: the answer says yes but lacks something.
	SetupMalformed SetupOutcome = "malformed"
	// SetupUnavailable: the network answered with another status, and may answer better later.
	SetupUnavailable SetupOutcome = "unavailable"
)

// SetupError is a setup request that brought no stream.
type SetupError struct {
	Outcome SetupOutcome
	Status  int
	// Code and Message are the network's, of a refusal.
	Code, Message string
}

func (e *SetupError) Error() string {
	switch e.Outcome {
	case SetupRefused:
		return fmt.Sprintf("the network refused the stream with %s: %s", CutText(e.Code, 64), CutText(strings.TrimRight(e.Message, ". "), 200))
	case SetupDenied:
		return "the network denied access to the task's setup channel: the task's write token is not valid for it or has expired"
	case SetupNotIntercepted:
		return "the network published the setup request instead of answering it: it has no streams here"
	case SetupMalformed:
		return fmt.Sprintf("the network's answer cannot be used: %s", CutText(e.Message, 200))
	}
	return fmt.Sprintf("the network answered with status %d", e.Status)
}

// Statuses of HTTP; this package knows nothing else of it.
const (
	statusOK        = 200
	statusForbidden = 403
)

// DecodeSetupAnswer reads the answer to a setup request of the given phase. A grant comes with status 403, because that
// is how a function of the network answers a publisher. The error is a *SetupError.
func DecodeSetupAnswer(status int, body []byte, phase SetupPhase) (StreamGrant, error) {
	fail := func(o SetupOutcome, message string) (StreamGrant, error) {
		return StreamGrant{}, &SetupError{Outcome: o, Status: status, Message: message}
	}
	switch status {
	case statusForbidden:
	case statusOK:
		return fail(SetupNotIntercepted, "")
	default:
		return fail(SetupUnavailable, "")
	}
	var payload map[string]json.RawMessage
	if json.Unmarshal(body, &payload) != nil || payload == nil {
		return fail(SetupDenied, "")
	}
	wrapped := objectMember(payload, "message")
	if wrapped != nil {
		payload = nil
		_ = json.Unmarshal(wrapped, &payload) // it is an object
	}
	dropNulls(payload)
	ok, hasOK := payload["ok"]
	if string(ok) == "false" {
		var e map[string]json.RawMessage
		_ = json.Unmarshal(payload["error"], &e)
		code, message := stringMember(e, "code"), stringMember(e, "message")
		if code == "" || message == "" {
			return fail(SetupDenied, "")
		}
		return StreamGrant{}, &SetupError{Outcome: SetupRefused, Status: status, Code: code, Message: message}
	}
	response := objectMember(payload, "streamSetupResponse")
	// An answer that is not wrapped may come without ok.
	if response == nil || string(ok) != "true" && (hasOK || wrapped != nil) {
		return fail(SetupDenied, "")
	}
	return decodeGrant(status, response, phase)
}

func decodeGrant(status int, response json.RawMessage, phase SetupPhase) (StreamGrant, error) {
	fail := func(format string, args ...any) (StreamGrant, error) {
		return StreamGrant{}, &SetupError{Outcome: SetupMalformed, Status: status, Message: fmt.Sprintf(format, args...)}
	}
	var m map[string]json.RawMessage
	_ = json.Unmarshal(response, &m) // it is an object
	dropNulls(m)
	g := StreamGrant{
		TaskID: stringMember(m, "taskId"), StreamID: stringMember(m, "streamId"), Channel: stringMember(m, "channel"),
		Direction: StreamDirection(stringMember(m, "direction")), Phase: SetupPhase(stringMember(m, "phase")), Token: stringMember(m, "token"),
	}
	for _, required := range [...]struct{ name, value string }{{"taskId", g.TaskID}, {"streamId", g.StreamID}, {"channel", g.Channel}} {
		if required.value == "" {
			return fail("it names no %s", required.name)
		}
	}
	var ttl float64
	if json.Unmarshal(m["tokenTtlMinutes"], &ttl) != nil || !(ttl > 0) || ttl > 1<<31 {
		return fail("tokenTtlMinutes is not a number above 0")
	}
	g.TTLMinutes = int(ttl)
	switch {
	case !g.Direction.Valid():
		return fail("direction %q is unknown", CutText(string(g.Direction), 64))
	case g.Phase != PhaseEmbedded && g.Phase != PhaseTokenRequest && g.Phase != PhaseActivate:
		return fail("phase %q is unknown", CutText(string(g.Phase), 64))
	case g.Phase != phase:
		return fail("it is for phase %s and not for %s", g.Phase, phase)
	case phase.grants() && g.Token == "":
		return fail("it has no token")
	case !phase.grants() && g.Token != "":
		return fail("it has a token, which phase %s does not grant", phase)
	}
	return g, nil
}
