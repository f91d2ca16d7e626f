package fault

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// again returns a request with its body from the start.
func again(r *http.Request, f *facts) *http.Request {
	c := r.Clone(r.Context())
	c.Body = io.NopCloser(bytes.NewReader(f.body))
	return c
}

// buffer holds an answer back.
type buffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newBuffer() *buffer { return &buffer{header: http.Header{}} }

func (b *buffer) Header() http.Header { return b.header }

func (b *buffer) WriteHeader(status int) {
	if b.status == 0 {
		b.status = status
	}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	return b.body.Write(p)
}

// Flush does nothing: the answer goes out as a whole.
func (b *buffer) Flush() {}

// send passes the answer on. With cut the connection is closed after the first bytes of the body, 0 for half of them.
func (b *buffer) send(w http.ResponseWriter, cut bool, after int) {
	maps.Copy(w.Header(), b.header)
	body := b.body.Bytes()
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if b.status == 0 {
		b.status = http.StatusOK
	}
	if !cut {
		w.WriteHeader(b.status)
		_, _ = w.Write(body) // the client may have disconnected
		return
	}
	if after == 0 || after >= len(body) {
		after = len(body) / 2
	}
	w.WriteHeader(b.status)
	_, _ = w.Write(body[:after])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets a handler flush.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// messageWriter passes the answer to a subscriber on, changing its messages if there are rules for them by the time
// that it is written: the poll may have been held since before them.
type messageWriter struct {
	http.ResponseWriter
	injector *Injector
	facts    func() *facts
	status   int
	sent     bool
}

func (w *messageWriter) WriteHeader(status int) { w.status = status }

func (w *messageWriter) Write(body []byte) (int, error) {
	n := len(body)
	if !w.sent {
		w.sent = true
		if w.injector.armed.Load() && (w.status == 0 || w.status == http.StatusOK) {
			body = w.injector.edit(w.facts(), body)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		if w.status != 0 {
			w.ResponseWriter.WriteHeader(w.status)
		}
	}
	if _, err := w.ResponseWriter.Write(body); err != nil {
		return 0, err
	}
	return n, nil
}

// Unwrap lets the answer be flushed.
func (w *messageWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// finish sends the head of an answer without a body.
func (w *messageWriter) finish() {
	if !w.sent && w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
}

// edit applies the rules for messages to the body of a subscribe answer.
func (j *Injector) edit(f *facts, body []byte) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	var rules []*active
	for _, a := range j.rules {
		if a.onMessages() && a.matches(f) {
			rules = append(rules, a)
		}
	}
	if rules == nil {
		return body
	}
	var answer struct {
		T json.RawMessage   `json:"t"`
		M []json.RawMessage `json:"m"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return body
	}
	subscriber := f.uuid + "\x00" + strings.Join(f.route.Channels, ",")
	for _, a := range rules {
		answer.M = a.editLocked(subscriber, answer.M)
	}
	out, err := json.Marshal(answer)
	if err != nil {
		return body
	}
	return out
}

// editLocked applies one rule to the messages of an answer.
func (a *active) editLocked(subscriber string, messages []json.RawMessage) []json.RawMessage {
	out := make([]json.RawMessage, 0, len(messages)+1)
	for _, m := range messages {
		if kept := a.pockets[subscriber]; kept != nil { // the next message is here: now this one follows it
			delete(a.pockets, subscriber)
			out = append(out, m, kept)
			continue
		}
		var envelope struct {
			C string `json:"c"`
		}
		_ = json.Unmarshal(m, &envelope) // the sandbox has encoded it
		if a.Channel != "" && !matchChannel(a.Channel, envelope.C) || a.Contains != "" && !bytes.Contains(m, []byte(a.Contains)) || !a.claimLocked() {
			out = append(out, m)
			continue
		}
		switch a.Action {
		case Gap:
		case Duplicate:
			out = append(out, m, m)
		case Reorder:
			a.pockets[subscriber] = m
		}
	}
	return out
}
