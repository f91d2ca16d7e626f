package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/blocksd/blocksd/network/wire"
)

// StreamMode says whether the agent should send live streams in a request task.
type StreamMode int

// The modes. The zero value leaves it to the network.
const (
	StreamDefault StreamMode = iota
	StreamOn
	StreamOff
)

// Message is a task to send.
type Message struct {
	// Agent is its name.
	Agent string
	// Parts are its inputs, with the ids that the agent's card names.
	Parts []Part
	// Duration makes it a pipe task, which runs for this long: whole minutes, from 1 to 43,200. 0 is a request task, which
	// ends when the agent is done.
	Duration time.Duration
	// Stream asks for live streams.
	Stream StreamMode
	// IdempotencyKey makes a second Send with the same key return the first task.
	IdempotencyKey string
	// OwnerID of the task, empty for that of the options. The network refuses an owner other than the authenticated user.
	OwnerID string
	// ConsumerPublicKey is passed to the agent.
	ConsumerPublicKey string
	// Push asks for notifications of what happens to the task; nil for none.
	Push *PushNotification
	// Retry lets the network repeat the task; nil for its default.
	Retry *RetryPolicy
	// Traceparent is the W3C trace context that the task is a part of, for an agent that takes part in traces. It goes with
	// the first text among the parts; without a text it is left out.
	Traceparent string
}

// PushNotification says where the network sends what happens to a task.
type PushNotification struct {
	URL          string `json:"url"`
	Filter       string `json:"filter,omitempty"`
	AuthStrategy string `json:"authStrategy,omitempty"`
}

// RetryPolicy says how often the network repeats a task, and until how long after it was sent.
type RetryPolicy struct {
	MaxRetries      int `json:"maxRetries"`
	ExpiresAfterSec int `json:"expiresAfterSec,omitempty"`
}

// check returns what is wrong with the message, before anything is sent.
func (m Message) check() error {
	if err := wire.CheckAgentName(m.Agent); err != nil {
		return err
	}
	if d := m.Duration; d != 0 && (d < time.Minute || d > wire.MaxPipeMinutes*time.Minute || d%time.Minute != 0) {
		return fmt.Errorf("the duration of a pipe task must be whole minutes from 1 to %d, not %s: set Message.Duration to such a value, or to 0 for a request task", wire.MaxPipeMinutes, d)
	}
	if m.Stream < StreamDefault || m.Stream > StreamOff {
		return fmt.Errorf("Message.Stream is %d: use client.StreamOn, client.StreamOff, or leave it out", m.Stream)
	}
	if !utf8.ValidString(m.IdempotencyKey) {
		return errors.New("the idempotency key is not valid UTF-8: choose another key")
	}
	if p := m.Push; p != nil {
		if why := wrongURL(p.URL); why != "" {
			return fmt.Errorf("Message.Push.URL %s", why)
		}
	}
	if r := m.Retry; r != nil && (r.MaxRetries < 0 || r.ExpiresAfterSec < 0) {
		return errors.New("Message.Retry has a negative number: use 0 for none")
	}
	if _, ok := wire.ParseTraceparent(m.Traceparent); !ok && m.Traceparent != "" {
		return fmt.Errorf("Message.Traceparent is no W3C trace context: %q", wire.CutText(m.Traceparent, 64))
	}
	for _, p := range m.Parts {
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

// optional encodes a value that may be absent.
func optional[T any](v *T) json.RawMessage {
	if v == nil {
		return nil
	}
	b, _ := json.Marshal(v) // texts and numbers always encode
	return b
}
