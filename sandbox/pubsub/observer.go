package pubsub

// Observer watches a space. All methods but Inspect are called under the lock of the space, in the order of the
// timetokens; they must be quick and must not call the space.
type Observer interface {
	// Inspect looks at a publication before the lock is taken; what it returns is handed to Published.
	Inspect(p Publication) any
	Published(m *Message, note any)
	// Polled says that a poll with a cursor has arrived: from here on its sender misses nothing.
	Polled(uuid string, channels []string)
	Presence(e PresenceEvent)
}
