package logpump

import (
	"log/slog"
	"strconv"
	"strings"
)

// Lines that are not JSON.

// parsePairs reads lines of key=value pairs, as the text forms of log/slog and logrus write them: they begin with time,
// ts or level, and have a level and a message.
func parsePairs(s string) (Entry, bool) {
	if !strings.HasPrefix(s, "time=") && !strings.HasPrefix(s, "ts=") && !strings.HasPrefix(s, "level=") {
		return Entry{}, false
	}
	e := Entry{Level: slog.LevelInfo}
	level, message := false, false
	for rest := s; rest != ""; {
		key, value, after, ok := cutPair(rest)
		if !ok {
			return Entry{}, false
		}
		rest = after
		switch {
		case key == "level" && !level:
			if e.Level, level = parseLevel(value); !level {
				return Entry{}, false
			}
		case (key == "time" || key == "ts") && e.Time.IsZero():
			e.Time = parseTime(value)
		case key == "msg" && !message:
			e.Message, message = value, true
		case len(e.Attrs) < maxAttrs:
			e.Attrs = append(e.Attrs, slog.String(attrKey(key), value))
		}
	}
	return e, level && message
}

// cutPair takes one key=value from the front; the value may be quoted as Go quotes.
func cutPair(s string) (key, value, rest string, ok bool) {
	key, rest, ok = strings.Cut(strings.TrimLeft(s, " "), "=")
	if !ok || key == "" || strings.ContainsAny(key, " \"") {
		return "", "", "", false
	}
	if strings.HasPrefix(rest, `"`) {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", "", "", false
		}
		if value, err = strconv.Unquote(quoted); err != nil {
			return "", "", "", false
		}
		return key, strings.ToValidUTF8(value, "\uFFFD"), strings.TrimLeft(rest[len(quoted):], " "), true
	}
	value, rest, _ = strings.Cut(rest, " ")
	return key, value, strings.TrimLeft(rest, " "), true
}

// parseText reads a level in front of a text:
//
//	[WARN] text          brackets
//	<4>text              as the kernel and systemd do
//	WARN text            a word in capitals
//	warning: text        a word and a colon; WARNING:root:text of Python
//	INFO[0000] text      logrus on a terminal
//	W0102 15:04:05.000000 123 file.go:1] text
//	                     klog
//	2006-01-02 15:04:05,000 - name - WARNING - text
//	                     a level behind a time, as Python, zap and many others write it
func parseText(s string) Entry {
	e := Entry{Level: slog.LevelInfo, Message: s}
	switch {
	case s == "":
	case s[0] == '[':
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
	case s[0] >= '0' && s[0] <= '9':
		if l, message, name, ok := behindTime(s); ok {
			e.Level, e.Message = l, message
			if name != "" {
				e.Attrs = []slog.Attr{slog.String("logger", name)}
			}
		}
	default:
		if l, ok := klog(s); ok {
			e.Level = l // the message keeps the place in the source
		} else if l, rest, ok := leadingWord(s); ok {
			e.Level, e.Message = l, rest
		}
	}
	return e
}

// leadingWord reads a level word in front.
func leadingWord(s string) (slog.Level, string, bool) {
	const longest = len("EMERGENCY")
	end := strings.IndexFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
	if end <= 0 || end > longest {
		return 0, "", false
	}
	word := s[:end]
	l, known := levelWords[strings.ToLower(word)]
	if !known {
		return 0, "", false
	}
	switch rest, capitals := s[end:], word == strings.ToUpper(word); {
	case rest[0] == ':' && strings.EqualFold(word, "panic"): // Go's own: the word belongs to what crash records show
		return l, s, true
	case rest[0] == ':' && capitals && len(rest) > 1 && rest[1] != ' ': // Python: WARNING:name:text
		if name, text, ok := strings.Cut(rest[1:], ":"); ok && !strings.ContainsAny(name, " ") {
			return l, strings.TrimSpace(text), true
		}
		return l, strings.TrimSpace(rest[1:]), true
	case rest[0] == ':':
		return l, strings.TrimSpace(rest[1:]), true
	case capitals && (rest[0] == ' ' || rest[0] == '\t'):
		return l, strings.TrimSpace(rest), true
	case capitals && rest[0] == '[':
		if _, text, ok := strings.Cut(rest, "]"); ok {
			return l, strings.TrimSpace(text), true
		}
	}
	return 0, "", false
}

// klog reads the letter of "W0102 15:04:05.000000 …".
func klog(s string) (slog.Level, bool) {
	if len(s) < 14 || s[5] != ' ' || s[8] != ':' || strings.Trim(s[1:5], "0123456789") != "" {
		return 0, false
	}
	switch s[0] {
	case 'I':
		return slog.LevelInfo, true
	case 'W':
		return slog.LevelWarn, true
	case 'E', 'F':
		return slog.LevelError, true
	}
	return 0, false
}

// behindTime reads a level word in capitals among the first words behind a time. What stands between the two is the
// logger's name.
func behindTime(s string) (level slog.Level, message, name string, ok bool) {
	const look = 3 // words behind the time
	rest, words := s, 0
	for words < look && rest != "" {
		end := strings.IndexAny(rest, " \t")
		if end < 0 {
			return 0, "", "", false
		}
		word := rest[:end]
		rest = strings.TrimLeft(rest[end:], " \t")
		if strings.Trim(word, "0123456789-+:.,/TZ") == "" { // of the time, or a dash between fields
			continue
		}
		words++
		bare := strings.Trim(word, "[]():|")
		if l, known := levelWords[strings.ToLower(bare)]; known && bare == strings.ToUpper(bare) {
			return l, strings.TrimLeft(rest, "-:| \t"), name, true
		}
		name = strings.TrimSpace(name + " " + word)
	}
	return 0, "", "", false
}
