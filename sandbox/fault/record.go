package fault

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"
)

// DefaultRecords is how many requests are remembered where nothing else is said; maxRecords is the most.
const (
	DefaultRecords = 1000
	maxRecords     = 100_000
)

// Request is one that was recorded.
type Request struct {
	// Seq counts the recorded requests from 1.
	Seq      int64     `json:"seq"`
	Time     time.Time `json:"time"`
	Side     string    `json:"side"`
	Endpoint string    `json:"endpoint,omitempty"`
	Method   string    `json:"method"`
	// Path with the query, in which tokens and signatures are masked.
	Path     string   `json:"path"`
	Channels []string `json:"channels,omitempty"`
	UUID     string   `json:"uuid,omitempty"`
	RPC      string   `json:"rpc,omitempty"`
	// Credential is a digest of the key or token that the request carried: the same for the same one.
	Credential string `json:"credential,omitempty"`
	// Body is what was sent, as far as it is remembered; Binary is set instead if it is not text. Truncated says that
	// there was more.
	Body      string `json:"body,omitempty"`
	Binary    []byte `json:"binary,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
	// Fault is the id of the rule that hit it.
	Fault string `json:"fault,omitempty"`
	// Status of the answer, 0 while there is none, and for a dropped connection.
	Status int `json:"status"`
}

// recording is what is remembered.
type recording struct {
	on      bool
	limit   int
	seq     int64
	entries []*Request
}

// Record begins to remember requests, the newest limit of them (0: DefaultRecords), or stops. What was remembered stays
// until the next begin.
func (j *Injector) Record(on bool, limit int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if on && !j.rec.on {
		j.rec.entries = nil
	}
	if limit <= 0 {
		limit = DefaultRecords
	}
	j.rec.on, j.rec.limit = on, min(limit, maxRecords)
	j.armLocked()
}

// Recording reports whether requests are remembered.
func (j *Injector) Recording() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rec.on
}

// Requests returns the remembered requests with a greater number than after, oldest first.
func (j *Injector) Requests(after int64) []Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := []Request{}
	for _, e := range j.rec.entries {
		if e.Seq > after {
			out = append(out, *e)
		}
	}
	return out
}

// record remembers a request; nil if it does not.
func (j *Injector) record(f *facts, rule *active) *Request {
	j.mu.Lock()
	on := j.rec.on
	j.mu.Unlock()
	if !on {
		return nil
	}
	e := &Request{
		Time: time.Now(), Side: f.route.Side, Endpoint: f.route.Endpoint, Method: f.method, Path: j.routes.Safe(f.r.URL), Channels: f.route.Channels, UUID: f.uuid, RPC: f.rpc(),
	}
	for _, name := range [...]string{"auth", "signature"} {
		if v := f.r.URL.Query().Get(name); v != "" {
			e.Credential = digest(v)
		}
	}
	if _, credential, ok := strings.Cut(f.r.Header.Get("Authorization"), " "); ok {
		e.Credential = digest(credential)
	}
	if rule != nil {
		e.Fault = rule.ID
	}
	if body := f.content(); utf8.Valid(body) {
		e.Body = string(body)
	} else {
		e.Binary = body
	}
	if e.Body == "" && f.route.Endpoint == "publish" {
		e.Body = f.text()
	}
	e.Truncated = f.cut
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rec.seq++
	e.Seq = j.rec.seq
	j.rec.entries = append(j.rec.entries, e)
	if extra := len(j.rec.entries) - j.rec.limit; extra > 0 {
		clear(j.rec.entries[:extra])
		j.rec.entries = j.rec.entries[extra:]
	}
	return e
}

func (j *Injector) answered(e *Request, status int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Status = status
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
