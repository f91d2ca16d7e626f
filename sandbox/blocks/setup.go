package blocks

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Phases of a stream's setup.
const (
	phaseEmbedded = "embedded"      // the provider gets its token and the consumer is notified
	phaseToken    = "token_request" // the provider gets its token
	phaseActivate = "activate"      // the consumer is notified
)

// Codes of refusals.
const (
	codeInvalidArgument  = "InvalidArgument"
	codeTokenGrantFailed = "TokenGrantFailed"
)

// setupSlack is how much longer than its task a stream's tokens live.
const setupSlack = 2 * time.Minute

// streamID is what a stream may be called. It is compiled when it is needed, because the program is not always a network.
var streamID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_-]{1,92}$`) })

// setupRequest is a stream_setup message.
type setupRequest struct {
	Type            string          `json:"type"`
	ProtocolVersion string          `json:"protocolVersion"`
	TaskID          string          `json:"taskId"`
	OrgID           string          `json:"orgId"`
	AgentName       string          `json:"agentName"`
	StreamID        string          `json:"streamId"`
	Channel         string          `json:"channel"`
	Direction       string          `json:"direction"`
	Format          string          `json:"format"`
	Affinity        string          `json:"affinity"`
	TaskKind        wire.TaskKind   `json:"taskKind"`
	DurationMinutes *float64        `json:"durationMinutes"`
	DeclaredStream  string          `json:"declaredStream"`
	Metadata        json.RawMessage `json:"metadata"`
	Phase           string          `json:"phase"`
}

// setupError is a refusal of the setup function.
type setupError struct{ code, message string }

func invalid(format string, args ...any) *setupError {
	return &setupError{codeInvalidArgument, fmt.Sprintf(format, args...)}
}

// Intercept is the function that takes messages on the setup channels of tasks out of the publish path: they are
// neither stored nor delivered. Its answer always has status 403, also where it grants what was asked for: that is how
// such a function answers a publisher. The publisher's right to the channel has been checked.
func (n *Network) Intercept(mode wire.BillingMode, p pubsub.Publication) (status int, answer []byte, ok bool) {
	rest, ok := strings.CutPrefix(p.Channel, "setup.")
	orgID, taskID, two := strings.Cut(rest, ".")
	if !ok || !two {
		return 0, nil, false
	}
	body, refusal := n.setup(mode, orgID, taskID, p.Body)
	message := map[string]any{"ok": true, "streamSetupResponse": body}
	if refusal != nil {
		message = map[string]any{"ok": false, "error": map[string]string{"code": refusal.code, "message": refusal.message}}
	}
	answer, err := json.Marshal(map[string]any{"status": http.StatusForbidden, "message": message})
	if err != nil {
		return http.StatusInternalServerError, []byte(`{"status":500,"error":true,"message":"Internal"}`), true
	}
	return http.StatusForbidden, answer, true
}

// setupAnswer is what the provider gets.
type setupAnswer struct {
	TaskID          string `json:"taskId"`
	StreamID        string `json:"streamId"`
	Channel         string `json:"channel"`
	Direction       string `json:"direction"`
	Phase           string `json:"phase"`
	Token           string `json:"token,omitempty"`
	TokenTTLMinutes int    `json:"tokenTtlMinutes"`
}

func (n *Network) setup(mode wire.BillingMode, orgID, taskID string, body []byte) (setupAnswer, *setupError) {
	var req setupRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return setupAnswer{}, invalid("the setup request cannot be read")
	}
	if refusal := req.check(orgID, taskID); refusal != nil {
		return setupAnswer{}, refusal
	}
	n.mu.Lock()
	t := n.tasks.byID[taskID]
	if refusal := n.checkSetupLocked(t, mode, &req); refusal != nil {
		n.mu.Unlock()
		return setupAnswer{}, refusal
	}
	provider, consumer := rights(req.Direction)
	ttl := min(time.Duration(math.Ceil(*req.DurationMinutes))*time.Minute+setupSlack, access.MaxTTL)
	issue := func(right access.Right) (string, *setupError) {
		token, err := t.env.Access.Issue(access.Grant{Issued: n.cfg.Now(), TTL: ttl, Channels: map[string]access.Right{req.Channel: right}})
		if err != nil {
			n.log.Error("no token for a stream", "task", t.ID, "channel", req.Channel, "err", err)
			return "", &setupError{codeTokenGrantFailed, "the token for the stream could not be granted"}
		}
		return token, nil
	}
	out := setupAnswer{
		TaskID: t.ID, StreamID: req.StreamID, Channel: req.Channel, Direction: req.Direction, Phase: req.Phase, TokenTTLMinutes: int(ttl / time.Minute),
	}
	var refusal *setupError
	if req.Phase != phaseActivate {
		if out.Token, refusal = issue(provider); refusal != nil {
			n.mu.Unlock()
			return setupAnswer{}, refusal
		}
	}
	s := t.Streams[req.StreamID]
	if s == nil {
		s = &stream{}
		if t.Streams == nil {
			t.Streams = map[string]*stream{}
		}
		t.Streams[req.StreamID] = s
	}
	s.Requested = true
	if req.Affinity == "shared" {
		t.agent.Streams[req.StreamID] = true
	} else {
		s.Channel = req.Channel
	}
	if req.Phase == phaseToken {
		n.mu.Unlock()
		return out, nil
	}
	// The consumer keeps the first token that it sees, so a repeated request announces the same one again.
	if s.Token == "" {
		if s.Token, refusal = issue(consumer); refusal != nil {
			n.mu.Unlock()
			return setupAnswer{}, refusal
		}
	}
	announcement := pubsub.Publication{
		Channel: t.Channel, Publisher: backendUUID, Store: true, Meta: wire.EventMeta(t.agent.Spec.Name, t.ID, ""), Body: req.announcement(s.Token),
	}
	space := t.env.Space
	n.mu.Unlock()
	space.Publish(announcement) // before the answer: the provider writes a second after it
	return out, nil
}

// rights of the provider and the consumer on a stream's channel.
func rights(direction string) (provider, consumer access.Right) {
	switch direction {
	case "outbound":
		return access.Write, access.Read
	case "inbound":
		return access.Read, access.Write
	}
	return access.Read | access.Write, access.Read | access.Write
}

func oneOf(name, value string, allowed ...string) *setupError {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	if value == "" {
		return invalid("%s missing", name)
	}
	return invalid("%s %q is not one of %s", name, wire.CutText(value, 64), strings.Join(allowed, ", "))
}

// check looks at the request alone.
func (r *setupRequest) check(orgID, taskID string) *setupError {
	for _, refusal := range [...]*setupError{
		oneOf("type", r.Type, "stream_setup"),
		oneOf("protocolVersion", r.ProtocolVersion, wire.ProtocolVersion),
		oneOf("phase", r.Phase, phaseEmbedded, phaseToken, phaseActivate),
		oneOf("direction", r.Direction, "outbound", "inbound", "bidirectional"),
		oneOf("format", r.Format, "bytes", "events"),
		oneOf("affinity", r.Affinity, "dedicated", "shared"),
		oneOf("taskKind", string(r.TaskKind), string(wire.Request), string(wire.Pipe)),
	} {
		if refusal != nil {
			return refusal
		}
	}
	switch {
	case r.TaskID != taskID || r.OrgID != orgID:
		return invalid("taskId and orgId are not those of the channel")
	case !streamID().MatchString(r.StreamID):
		return invalid("streamId must have 1 to 92 letters, digits, _ and -")
	case r.Channel != wire.StreamChannel(r.AgentName, r.StreamID):
		return invalid("channel is not that of the agent and the stream")
	case r.DurationMinutes == nil || !(*r.DurationMinutes > 0) || *r.DurationMinutes > wire.MaxPipeMinutes:
		return invalid("durationMinutes must be more than 0 and at most %d", wire.MaxPipeMinutes)
	case r.Metadata != nil && string(r.Metadata) != "null" && r.Metadata[0] != '{':
		return invalid("metadata is not an object")
	case r.Affinity == "shared" && r.Phase == phaseToken:
		return invalid("a shared stream cannot be external")
	case r.TaskKind == wire.Request && (r.Direction != "outbound" || r.Affinity == "shared" || r.Phase == phaseToken):
		return invalid("a request task has outbound, dedicated streams of its own only")
	}
	return nil
}

// checkSetupLocked looks at the task.
func (n *Network) checkSetupLocked(t *task, mode wire.BillingMode, r *setupRequest) *setupError {
	switch {
	case t == nil || t.OrgID != r.OrgID || t.env != n.envs[mode]:
		return invalid("the task is unknown")
	case t.State.Final():
		return invalid("the task has ended")
	case t.agent.Spec.Name != r.AgentName:
		return invalid("the task belongs to another agent")
	case t.Kind != r.TaskKind:
		return invalid("taskKind is not that of the task")
	case !t.HasStream:
		return invalid("the task has no streams")
	}
	declared, known := t.agent.Spec.Streams[r.DeclaredStream]
	switch want := (card.Stream{Direction: r.Direction, Format: r.Format, Affinity: r.Affinity}); {
	case r.DeclaredStream == "": // only the newer SDKs say which one it is
	case !known:
		return invalid("the agent declares no stream %s", wire.CutText(r.DeclaredStream, 92))
	case declared != want:
		return invalid("direction, format or affinity are not those that the agent declares for the stream %s", r.DeclaredStream)
	}
	s := t.Streams[r.StreamID]
	if r.Phase == phaseActivate && (s == nil || !s.Requested) && !(r.Affinity == "shared" && t.agent.Streams[r.StreamID]) {
		return invalid("the stream has not been set up")
	}
	return nil
}

// announcement is the event by which consumers learn of a stream.
func (r *setupRequest) announcement(token string) []byte {
	b := pubsub.AppendString([]byte(`{"type":"progress","taskId":`), r.TaskID)
	b = append(b, `,"streamEvent":"stream_started"`...)
	if r.DeclaredStream != "" {
		b = pubsub.AppendString(append(b, `,"declaredStream":`...), r.DeclaredStream)
	}
	b = pubsub.AppendString(append(b, `,"streams":{`...), r.StreamID)
	for i, member := range [...]struct{ name, value string }{
		{"direction", r.Direction}, {"format", r.Format}, {"affinity", r.Affinity}, {"channel", r.Channel}, {"token", token},
	} {
		lead := byte(',')
		if i == 0 {
			b, lead = append(b, ':'), '{'
		}
		b = append(append(append(b, lead, '"'), member.name...), `":`...)
		b = pubsub.AppendString(b, member.value)
	}
	if len(r.Metadata) > 0 && string(r.Metadata) != "null" {
		b = append(append(b, `,"metadata":`...), r.Metadata...)
	}
	return append(b, `}},"protocolVersion":"`+wire.ProtocolVersion+`"}`...)
}
