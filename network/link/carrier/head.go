package carrier

import "bytes"

// maxLength is the largest length that parseHead takes.
const maxLength = 1 << 30

// parseHead reads the head of a usual answer: status 200, a length, and nothing that says how to read it. ok is false for
// every other one, right or wrong, and for one that is unusual in any way.
func parseHead(b []byte) (length int, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte("HTTP/1.1 200 "))
	if !ok {
		return 0, false
	}
	line, rest := nextLine(rest)
	if line == nil {
		return 0, false
	}
	length = -1
	for {
		if line, rest = nextLine(rest); line == nil {
			return 0, false
		}
		if len(line) == 0 {
			return length, length >= 0 && len(rest) == 0
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 {
			return 0, false
		}
		name := line[:colon]
		for _, c := range name {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return 0, false
			}
		}
		switch {
		case len(name) == len("connection") && bytes.EqualFold(name, []byte("connection")):
			if !bytes.EqualFold(bytes.Trim(line[colon+1:], " "), []byte("keep-alive")) {
				return 0, false
			}
		case len(name) == len("transfer-encoding") && bytes.EqualFold(name, []byte("transfer-encoding")),
			len(name) == len("content-encoding") && bytes.EqualFold(name, []byte("content-encoding")),
			len(name) == len("trailer") && bytes.EqualFold(name, []byte("trailer")):
			return 0, false
		case len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")):
			if length >= 0 { // twice
				return 0, false
			}
			if length = parseLength(bytes.Trim(line[colon+1:], " ")); length < 0 {
				return 0, false
			}
		}
	}
}

// nextLine takes a line off. It is nil if there is none, or if it holds what does not belong in a line.
func nextLine(b []byte) (line, rest []byte) {
	end := bytes.IndexByte(b, '\n')
	if end < 1 || b[end-1] != '\r' {
		return nil, nil
	}
	line = b[:end-1]
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return nil, nil
		}
	}
	return line, b[end+1:]
}

// parseLength returns -1 for what is not a length.
func parseLength(b []byte) int {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		if n = 10*n + int(c-'0'); n > maxLength {
			return -1
		}
	}
	if len(b) == 0 {
		return -1
	}
	return n
}
