package pubsub

import (
	"errors"
	"slices"
	"strconv"
)

// Action is something that someone has attached to a message: a reaction, a receipt.
type Action struct {
	Type, Value, UUID string
	MessageTimetoken  int64
	Timetoken         int64 // of the action itself
}

// Reasons why an action cannot be added or removed.
var (
	ErrActionExists  = errors.New("action was added already")
	ErrNoAction      = errors.New("there is no such action")
	ErrActionOfOther = errors.New("action belongs to another uuid")
)

// typeAction is the type of an envelope that announces a message action.
const typeAction = 3

// AddAction attaches an action to a message and announces it on the channel. The message need not exist. The error is
// ErrActionExists.
func (s *Space) AddAction(channel string, a Action) (Action, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.channels[channel]; t != nil {
		for _, m := range t.actions {
			if o := m.action; o.MessageTimetoken == a.MessageTimetoken && o.UUID == a.UUID && o.Type == a.Type && o.Value == a.Value {
				return Action{}, ErrActionExists
			}
		}
	}
	a.Timetoken = s.tickLocked()
	s.announceActionLocked(channel, a, "added", &a)
	return a, nil
}

// RemoveAction removes an action and announces that on the channel. Only its own uuid may. The error is ErrNoAction or
// ErrActionOfOther.
func (s *Space) RemoveAction(channel string, messageTimetoken, timetoken int64, uuid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.channels[channel]
	if t == nil {
		return ErrNoAction
	}
	i := slices.IndexFunc(t.actions, func(m *Message) bool {
		return m.action.Timetoken == timetoken && m.action.MessageTimetoken == messageTimetoken
	})
	if i < 0 {
		return ErrNoAction
	}
	m := t.actions[i]
	if m.action.UUID != uuid {
		return ErrActionOfOther
	}
	a := *m.action
	t.actions, m.action = slices.Delete(t.actions, i, i+1), nil
	s.releaseLocked(m)
	s.cfg.Changed()
	s.announceActionLocked(channel, a, "removed", nil)
	return nil
}

// announceActionLocked publishes the event of an action. The event of an added one also keeps it.
func (s *Space) announceActionLocked(channel string, a Action, event string, kept *Action) {
	b := append([]byte(`{"source":"actions","version":"1.0","event":"`), event...)
	b = strconv.AppendInt(append(b, `","data":{"messageTimetoken":"`...), a.MessageTimetoken, 10)
	b = strconv.AppendInt(append(b, `","actionTimetoken":"`...), a.Timetoken, 10)
	b = AppendString(append(b, `","type":`...), a.Type)
	b = append(AppendString(append(b, `,"value":`...), a.Value), `}}`...)
	m := encode(s.cfg.SubscribeKey, Publication{Channel: channel, Publisher: a.UUID, Body: b, Type: typeAction})
	m.action = kept
	s.appendLocked(m)
}

// Actions returns the newest limit actions of a channel that are older than start and not older than end (0: no bound),
// oldest first.
func (s *Space) Actions(channel string, start, end int64, limit int) (found []Action, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.channels[channel]
	if t == nil {
		return nil, false
	}
	for _, m := range slices.Backward(t.actions) {
		if start > 0 && m.action.Timetoken >= start {
			continue
		}
		if m.action.Timetoken < end {
			break
		}
		if len(found) == limit {
			more = true
			break
		}
		found = append(found, *m.action)
	}
	slices.Reverse(found)
	return found, more
}

// actionsOfLocked returns the actions of one message, oldest first.
func (t *topic) actionsOfLocked(messageTimetoken int64) (found []Action) {
	for _, m := range t.actions {
		if m.action.MessageTimetoken == messageTimetoken {
			found = append(found, *m.action)
		}
	}
	return found
}
