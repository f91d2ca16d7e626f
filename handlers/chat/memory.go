package main

import (
	"slices"
	"sync"
)

// Bounds of what is remembered.
const (
	maxConversations = 1000
	maxMessages      = 100
	maxMessage       = 1000 // bytes of one message
)

// key names a conversation.
type key struct{ org, owner, name string }

// memory are the conversations of this process: the daemon runs one process of a handler unless it is told otherwise, and
// what must outlast the process belongs into a database.
type memory struct {
	limit int

	mu            sync.Mutex // guards what follows
	conversations map[key][]string
	order         []key // by the latest message, the oldest first
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, conversations: map[key][]string{}}
}

// say adds a message to a conversation and returns what was said in it so far.
func (m *memory) say(k key, text string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	said := append(m.conversations[k], short(text))
	if len(said) > maxMessages {
		said = said[1:]
	}
	m.conversations[k] = said
	m.order = append(slices.DeleteFunc(m.order, func(o key) bool { return o == k }), k)
	if len(m.order) > m.limit {
		delete(m.conversations, m.order[0])
		m.order = m.order[1:]
	}
	return slices.Clone(said)
}

// short cuts a message, not inside a character.
func short(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	end := maxMessage
	for end > 0 && text[end]&0xC0 == 0x80 {
		end--
	}
	return text[:end] + "…"
}
