package logpump

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Entry is one line of a handler's output, understood as far as it goes.
type Entry struct {
	Level   slog.Level
	Message string
	// Time as the handler wrote it; zero when it wrote none.
	Time  time.Time
	Attrs []slog.Attr
}

// maxAttrs bounds the attributes taken from one line; the rest is dropped.
const maxAttrs = 64

// Parse understands JSON lines of log/slog (level, msg, time) and of hclog (@level, @message, @timestamp), and texts that
// begin with "[LEVEL]", with a level word and a space, or with the kernel's "<n>". Everything else is a message at level
// info. No input makes it fail: what a handler writes must never hurt the daemon.
func Parse(line []byte) Entry {
	line = bytes.TrimRight(line, "\r\n")
	if t := bytes.TrimSpace(line); len(t) > 1 && t[0] == '{' {
		if e, ok := parseJSON(t); ok {
			return e
		}
	}
	return parseText(strings.ToValidUTF8(string(line), "\uFFFD"))
}

// levelWords are the names of levels in the log formats that handlers use, in lower case.
var levelWords = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "notice": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError, "err": slog.LevelError,
	"critical": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError,
}

// parseLevel also reads slog's levels with an offset, such as "WARN+2".
func parseLevel(s string) (slog.Level, bool) {
	if l, ok := levelWords[strings.ToLower(s)]; ok {
		return l, true
	}
	var l slog.Level
	if len(s) <= 16 && l.UnmarshalText([]byte(s)) == nil {
		return l, true
	}
	return 0, false
}

func parseText(s string) Entry {
	e := Entry{Level: slog.LevelInfo, Message: s}
	switch {
	case strings.HasPrefix(s, "["):
		if word, rest, ok := strings.Cut(s[1:], "]"); ok {
			if l, known := parseLevel(strings.TrimSpace(word)); known {
				e.Level, e.Message = l, strings.TrimSpace(rest)
			}
		}
	case len(s) >= 3 && s[0] == '<' && s[1] >= '0' && s[1] <= '7' && s[2] == '>':
		e.Message = strings.TrimSpace(s[3:])
		switch n := s[1] - '0'; {
		case n <= 3:
			e.Level = slog.LevelError
		case n == 4:
			e.Level = slog.LevelWarn
		case n == 7:
			e.Level = slog.LevelDebug
		}
	}
	return e
}

// parseJSON is false for JSON that is not a log line: no message member of type text.
func parseJSON(line []byte) (Entry, bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal(line, &m) != nil {
		return Entry{}, false
	}
	text := func(keys ...string) (string, bool) {
		for _, k := range keys {
			var s string
			if raw, ok := m[k]; ok && json.Unmarshal(raw, &s) == nil && len(raw) > 0 && raw[0] == '"' {
				delete(m, k)
				return s, true
			}
		}
		return "", false
	}
	e := Entry{Level: slog.LevelInfo}
	var ok bool
	if e.Message, ok = text("msg", "@message"); !ok {
		return Entry{}, false
	}
	if s, ok := text("level", "@level"); ok {
		if l, known := parseLevel(s); known {
			e.Level = l
		}
	}
	if s, ok := text("time", "@timestamp"); ok {
		e.Time, _ = time.Parse(time.RFC3339Nano, s)
	}
	if s, ok := text("@module"); ok {
		e.Attrs = append(e.Attrs, slog.String("module", s))
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys) // the order of the line is lost; a stable one is better than none
	for _, k := range keys {
		if len(e.Attrs) == maxAttrs {
			break
		}
		e.Attrs = append(e.Attrs, attr(k, m[k]))
	}
	return e, true
}

// ours are attribute keys that the daemon sets itself: a handler must not be able to speak for another one.
var ours = []string{"handler", "pid", "agent", "time", "level", "msg", "source"}

func attr(key string, raw json.RawMessage) slog.Attr {
	if slices.Contains(ours, key) {
		key += "_"
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return slog.String(key, string(raw))
	}
	switch v := v.(type) {
	case string:
		return slog.String(key, v)
	case bool:
		return slog.Bool(key, v)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return slog.Int64(key, n)
		}
		return slog.String(key, v.String())
	}
	return slog.String(key, string(raw))
}
