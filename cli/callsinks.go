package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
)

// streamSink takes the items of one stream.
type streamSink interface {
	write(client.StreamItem) error
	close() error
}

func (v *streamView) sink(ref *client.StreamRef) (streamSink, error) {
	switch {
	case v.options.streamDir != "":
		return v.newFileSink(ref)
	case v.out.asJSON:
		return &jsonSink{out: v.out, name: ref.Name(), id: ref.ID()}, nil
	case v.out.streamLines:
		return lineSink{out: v.out, name: ref.Name()}, nil
	}
	return &textSink{out: v.out}, nil
}

// jsonSink prints each item as a line of JSON.
type jsonSink struct {
	out      *callPrinter
	name, id string
}

func (s *jsonSink) write(item client.StreamItem) error {
	line := struct {
		Type     string          `json:"type"`
		Stream   string          `json:"stream"`
		StreamID string          `json:"streamId"`
		Seq      int64           `json:"seq"`
		Text     *string         `json:"text,omitempty"`
		Data     *[]byte         `json:"data,omitempty"`
		Event    json.RawMessage `json:"event,omitempty"`
	}{Type: "stream", Stream: s.name, StreamID: s.id, Seq: item.Seq}
	switch {
	case item.Event != nil:
		line.Event = item.Event
	case utf8.Valid(item.Data):
		text := string(item.Data)
		line.Text = &text
	default:
		line.Data = &item.Data
	}
	return s.out.line(line)
}

func (s *jsonSink) close() error { return nil }

// textSink prints a stream for people and for pipes. A terminal gets no control characters.
type textSink struct {
	out  *callPrinter
	rest []byte // the beginning of a character whose end has not come
}

func (s *textSink) write(item client.StreamItem) error {
	if item.Event != nil {
		line := compactJSON(item.Event)
		if !s.out.plain {
			line = []byte(printable(string(line)))
		}
		return s.out.write(append(line, '\n'))
	}
	if s.out.plain {
		return s.out.write(item.Data)
	}
	data := append(s.rest, item.Data...)
	whole := len(data) - partial(data)
	s.rest = append([]byte(nil), data[whole:]...)
	return s.out.write([]byte(printableText(string(data[:whole]))))
}

func (s *textSink) close() error {
	rest := ""
	if len(s.rest) > 0 {
		rest = "\uFFFD"
	}
	return s.out.endText(rest)
}

// lineSink prints a line for each item.
type lineSink struct {
	out  *callPrinter
	name string
}

func (s lineSink) write(item client.StreamItem) error {
	text := bytes.TrimRight(item.Data, "\r\n")
	if item.Event != nil {
		text = compactJSON(item.Event)
	}
	s.out.say("stream %s: %s", s.name, wire.CutText(string(text), shownItem))
	return nil
}

func (lineSink) close() error { return nil }

// shownItem is how many bytes of an item stand on its line.
const shownItem = 200

// printableText is printableLines for text whose lines end as on Windows, too.
func printableText(s string) string { return printableLines(strings.ReplaceAll(s, "\r\n", "\n")) }

func compactJSON(v json.RawMessage) []byte {
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return v // it was decoded before
	}
	return b.Bytes()
}

// partial is how many bytes at the end of data begin a character without ending it.
func partial(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		if b := data[len(data)-n]; utf8.RuneStart(b) {
			if utf8.FullRune(data[len(data)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// fileSink writes a stream to a file: bytes as they are, events as lines of JSON.
type fileSink struct {
	file *os.File
	what string // what is done, for errors
}

func (v *streamView) newFileSink(ref *client.StreamRef) (streamSink, error) {
	name := v.fileName(ref.Name())
	what := fmt.Sprintf("write stream %q to %s", ref.Name(), filepath.Join(v.options.streamDir, name))
	root, err := os.OpenRoot(v.options.streamDir) // a name or a link must not lead out of it
	if err != nil {
		return nil, &lostOutput{what, err}
	}
	defer root.Close()
	f, err := root.Create(name)
	if err != nil {
		return nil, &lostOutput{what, err}
	}
	return fileSink{f, what}, nil
}

// fileName is that of a stream's file: the stream's name, with a number for each further stream of that name.
func (v *streamView) fileName(stream string) string {
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == utf8.RuneError || printable(string(r)) != string(r) {
			return '_'
		}
		return r
	}, stream)
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") { // hidden, or an option in `rm *`
		name = "_" + name[1:]
	}
	if len(name) > 200 { // file systems allow 255
		name = strings.ToValidUTF8(name[:200], "")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.names[name]++
	if n := v.names[name]; n > 1 {
		return name + "-" + strconv.Itoa(n)
	}
	return name
}

func (s fileSink) write(item client.StreamItem) error {
	data := item.Data
	if item.Event != nil {
		data = append(compactJSON(item.Event), '\n')
	}
	if _, err := s.file.Write(data); err != nil {
		return &lostOutput{s.what, err}
	}
	return nil
}

func (s fileSink) close() error {
	info, err := s.file.Stat()
	err = errors.Join(err, s.file.Close())
	if err != nil {
		return &lostOutput{s.what, err}
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink == 0 {
		return &lostOutput{s.what, errors.New("the file was removed meanwhile")}
	}
	return nil
}
