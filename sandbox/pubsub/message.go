package pubsub

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Publication is what a publisher sends. Meta and Body must be valid JSON (Meta may be nil); they are copied.
type Publication struct {
	Channel   string
	Publisher string
	Meta      []byte
	Body      []byte
	// Store keeps the message in the history of the channel.
	Store bool
	// TTL is how long a stored message is kept; 0 is indefinitely.
	TTL time.Duration
	// Origin is the timetoken under which the message was first published elsewhere, "" for none.
	Origin string
	// Type is the envelope's type: 0 message, 1 signal, 3 message action, 4 file.
	Type int
	// CustomType is the publisher's own name for the type of the message.
	CustomType string
	// Sequence is the publisher's counter, 0 for none.
	Sequence int
	// Unless, if set, is asked under the lock of the space right before the message is appended; true calls it off. It
	// must not call the space.
	Unless func() bool
}

// Message is one published message. It is immutable, except for the bookkeeping of the space.
type Message struct {
	Channel    string
	Timetoken  int64
	Publisher  string
	CustomType string
	Stored     bool
	Type       int

	// envelope is the message as subscribers get it, without the closing brace, so that the subscription match can be
	// added for each. meta and body are parts of it.
	envelope, meta, body []byte
	stampAt              int
	ttl                  time.Duration
	action               *Action // of an added action, else nil

	bookkeeping
}

// bookkeeping is what the space notes about a message, guarded by its lock.
type bookkeeping struct {
	expires    int64 // timetoken after which it is not in the history; 0 for never
	refs       int   // ring, log and actions that hold it
	cost       int64
	prev, next *Message
}

// Body is the payload; nil once the message has been dropped. Not to be changed.
func (m *Message) Body() []byte { return m.body }

// Meta is the publisher's metadata, nil when there is none. Not to be changed.
func (m *Message) Meta() []byte { return m.meta }

const blankTimetoken = "00000000000000000"

// messageOverhead is what a message costs beside its envelope.
const messageOverhead = 256

func encode(subscribeKey string, p Publication) *Message {
	m := &Message{Channel: p.Channel, Publisher: p.Publisher, CustomType: p.CustomType, Stored: p.Store, Type: p.Type, ttl: p.TTL}
	b := make([]byte, 0, 160+len(p.Channel)+len(p.Meta)+len(p.Body))
	b = append(b, `{"a":"1","f":0,`...)
	if p.Publisher != "" {
		b = append(AppendString(append(b, `"i":`...), p.Publisher), ',')
	}
	if p.Sequence != 0 {
		b = append(strconv.AppendInt(append(b, `"s":`...), int64(p.Sequence), 10), ',')
	}
	b = append(b, `"p":{"t":"`...)
	m.stampAt = len(b)
	b = append(b, blankTimetoken+`","r":`+region+`}`...)
	if p.Origin != "" {
		b = append(AppendString(append(b, `,"o":{"t":`...), p.Origin), '}')
	}
	b = append(b, `,"k":`...)
	b = AppendString(b, subscribeKey)
	b = AppendString(append(b, `,"c":`...), p.Channel)
	if p.CustomType != "" {
		b = AppendString(append(b, `,"cmt":`...), p.CustomType)
	}
	if p.Type != 0 {
		b = strconv.AppendInt(append(b, `,"e":`...), int64(p.Type), 10)
	}
	metaAt, metaEnd := 0, 0
	if len(p.Meta) > 0 {
		b = append(b, `,"u":`...)
		metaAt = len(b)
		b = append(b, p.Meta...)
		metaEnd = len(b)
	}
	b = append(b, `,"d":`...)
	bodyAt := len(b)
	b = append(b, p.Body...)
	m.envelope, m.body = b, b[bodyAt:len(b):len(b)]
	if metaEnd > 0 {
		m.meta = b[metaAt:metaEnd:metaEnd]
	}
	m.cost = int64(len(b)) + messageOverhead
	return m
}

// stamp writes the timetoken into the envelope; called once, before anyone else sees it.
func (m *Message) stamp(tt int64) {
	m.Timetoken = tt
	strconv.AppendInt(m.envelope[m.stampAt:m.stampAt], tt, 10)
}

func (m *Message) size() int64 { return m.cost }

func (m *Message) drop() {
	m.envelope, m.meta, m.body = nil, nil, nil
}

func sortByTimetoken(ms []*Message) {
	slices.SortFunc(ms, func(a, b *Message) int {
		switch {
		case a.Timetoken < b.Timetoken:
			return -1
		case a.Timetoken > b.Timetoken:
			return 1
		}
		return 0
	})
}

// after returns the part of ms that is newer than the cursor.
func after(ms []*Message, cursor int64) []*Message {
	// Nearly always only the last few are new: search from the end.
	i := len(ms)
	for i > 0 && ms[i-1].Timetoken > cursor {
		i--
		if len(ms)-i > 8 {
			n, _ := slices.BinarySearchFunc(ms[:i], cursor+1, compareTimetoken)
			return ms[n:]
		}
	}
	return ms[i:]
}

func compareTimetoken(m *Message, tt int64) int {
	switch {
	case m.Timetoken < tt:
		return -1
	case m.Timetoken > tt:
		return 1
	}
	return 0
}

// list holds the messages of a space in the order of their timetokens.
type list struct {
	first, last *Message
	length      int
}

func (l *list) push(m *Message) {
	m.prev = l.last
	if l.last == nil {
		l.first = m
	} else {
		l.last.next = m
	}
	l.last = m
	l.length++
}

func (l *list) remove(m *Message) {
	if m.prev == nil {
		l.first = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		l.last = m.prev
	} else {
		m.next.prev = m.prev
	}
	m.prev, m.next = nil, nil
	l.length--
}

// AppendString appends s as a JSON string.
func AppendString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(s) // a string always encodes
			return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
