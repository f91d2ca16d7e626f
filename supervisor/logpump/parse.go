package logpump

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math"
	"slices"
	"strconv"
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
	// structured: it is JSON or key=value pairs.
	structured bool
}

// maxAttrs bounds the attributes taken from one line; the rest is dropped.
const maxAttrs = 64

// Parse understands JSON lines of log/slog, hclog, zap, zerolog, logrus, pino, bunyan and Python's logging, lines of
// key=value pairs, and texts with a level in front (text.go). Everything else is a message at level info. No input makes it
// fail: what a handler writes must never hurt the daemon.
func Parse(line []byte) Entry {
	line = bytes.TrimRight(line, "\r\n")
	if t := bytes.TrimSpace(line); len(t) > 1 && t[0] == '{' {
		if e, ok := parseJSON(t); ok {
			e.structured = true
			return e
		}
	}
	s := strings.ToValidUTF8(string(line), "\uFFFD")
	if e, ok := parsePairs(s); ok {
		e.structured = true
		return e
	}
	return parseText(s)
}

// The members that mean the same in different libraries, in the order in which they are looked for.
var (
	messageKeys = []string{"msg", "@message", "message", "event"}             // slog, zap, logrus, pino, bunyan; hclog; zerolog, Python; structlog
	levelKeys   = []string{"level", "@level", "levelname", "severity", "lvl"} // most; hclog; Python; cloud formats
	timeKeys    = []string{"time", "@timestamp", "ts", "timestamp", "asctime"}
)

// levelWords are the names of levels in the log formats that handlers use, in lower case.
var levelWords = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "notice": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError, "err": slog.LevelError,
	"critical": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError, "dpanic": slog.LevelError,
	"alert": slog.LevelError, "emerg": slog.LevelError, "emergency": slog.LevelError,
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

// numberedLevel is a level of pino and bunyan: 10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal.
func numberedLevel(n float64) slog.Level {
	switch {
	case n < 30:
		return slog.LevelDebug
	case n < 40:
		return slog.LevelInfo
	case n < 50:
		return slog.LevelWarn
	}
	return slog.LevelError
}

// pythonLevel is levelno of Python: 10 debug, 20 info, 30 warning, 40 error, 50 critical.
func pythonLevel(n float64) slog.Level { return numberedLevel(n + 10) }

// parseJSON is false for JSON that is not a log line: no message member of type text.
func parseJSON(line []byte) (Entry, bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal(line, &m) != nil {
		return Entry{}, false
	}
	e := Entry{Level: slog.LevelInfo}
	var ok bool
	if e.Message, ok = take[string](m, messageKeys...); !ok {
		return Entry{}, false
	}
	if s, ok := take[string](m, levelKeys...); ok {
		if l, known := parseLevel(s); known {
			e.Level = l
		}
	} else if n, ok := take[float64](m, "level"); ok {
		e.Level = numberedLevel(n)
	} else if n, ok := take[float64](m, "levelno"); ok {
		e.Level = pythonLevel(n)
	}
	if s, ok := take[string](m, timeKeys...); ok {
		e.Time = parseTime(s)
	} else if n, ok := take[float64](m, append(timeKeys, "created")...); ok {
		e.Time = epoch(n)
	}
	if s, ok := take[string](m, "@module"); ok {
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

// take removes the first member of one of the names that has the type, and returns its value.
func take[T string | float64](m map[string]json.RawMessage, keys ...string) (T, bool) {
	var none T
	for _, k := range keys {
		raw, ok := m[k]
		var v *T // null leaves it nil
		if ok && json.Unmarshal(raw, &v) == nil && v != nil {
			delete(m, k)
			return *v, true
		}
	}
	return none, false
}

// timeLayouts in addition to RFC 3339: zap's, and Python's asctime without and with milliseconds, which are local times.
var timeLayouts = []string{"2006-01-02T15:04:05.999Z0700", "2006-01-02 15:04:05,000", "2006-01-02 15:04:05"}

func parseTime(s string) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t
		}
	}
	return time.Time{}
}

// epoch reads seconds, milliseconds, microseconds or nanoseconds since 1970, distinguished by their size.
func epoch(n float64) time.Time {
	switch {
	case n <= 0 || math.IsNaN(n) || n >= 9e18:
		return time.Time{}
	case n < 1e11:
		return time.UnixMicro(int64(n * 1e6))
	case n < 1e14:
		return time.UnixMicro(int64(n * 1e3))
	case n < 1e17:
		return time.UnixMicro(int64(n))
	}
	return time.Unix(0, int64(n))
}

// ours are attribute keys that the daemon sets itself: a handler must not be able to speak for another one.
var ours = []string{"handler", "pid", "agent", "time", "level", "msg", "source"}

func attrKey(key string) string {
	if slices.Contains(ours, key) {
		key += "_"
	}
	return key
}

func attr(key string, raw json.RawMessage) slog.Attr {
	key = attrKey(key)
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
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return slog.Int64(key, n)
		}
		return slog.String(key, v.String())
	}
	return slog.String(key, string(raw))
}
