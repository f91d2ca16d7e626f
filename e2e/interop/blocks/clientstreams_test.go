package blocks

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/e2e/internal/system"
)

// open opens a stream of a task when it is announced.
func (w *work) open(s *client.Session, name string) (*client.StreamRef, *client.Stream, error) {
	ref, err := s.WaitStream(w.ctx, name)
	if err != nil {
		return nil, nil, err
	}
	stream, err := ref.Open(w.ctx)
	return ref, stream, err
}

// end ends a pipe task, and says how any task ended.
func (w *work) end(s *client.Session, read *client.Stream) ([]string, error) {
	if read != nil && read.Gaps() > 0 {
		return nil, fmt.Errorf("%d messages of stream %q are missing", read.Lost(), read.Name())
	}
	if w.TaskKind == "pipe" {
		if err := s.Cancel(w.ctx); err != nil {
			return nil, err
		}
	}
	end, err := s.Wait(w.ctx)
	return []string{"ends " + string(end.State)}, err
}

// sendAndOpen sends the task and opens its stream. The session, which is to be closed, closes both.
func (w *work) sendAndOpen() (*client.Client, *client.Session, *client.Stream, error) {
	c, s, err := w.send()
	if err != nil {
		return nil, nil, nil, err
	}
	_, stream, err := w.open(s, w.Name)
	if err != nil {
		s.Close()
		return nil, nil, nil, err
	}
	return c, s, stream, nil
}

// readToTheEnd tells every element of a stream, ends the task, and tells how that ended.
func (w *work) readToTheEnd(s *client.Session, stream *client.Stream) (said []string, err error) {
	for item, err := range stream.Items(w.ctx) {
		switch {
		case err != nil:
			return nil, err
		case stream.Format() == client.FormatEvents:
			said = append(said, "read "+asPythonText(item.Event))
		default:
			said = append(said, "read "+shown(item.Data))
		}
		if w.Release.After > 0 && len(said) == w.Release.After {
			if err := os.WriteFile(w.Release.File, nil, 0o600); err != nil {
				return nil, err
			}
		}
	}
	ends, err := w.end(s, stream)
	return append(said, ends...), err
}

func (w *work) readStream() ([]string, error) {
	_, s, stream, err := w.sendAndOpen()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return w.readToTheEnd(s, stream)
}

func (w *work) joinedStream() ([]string, error) {
	_, s, stream, err := w.sendAndOpen()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var all []byte
	for b, err := range stream.Bytes(w.ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	ends, err := w.end(s, stream)
	return append([]string{"read " + shown(all)}, ends...), err
}

func (w *work) sharedStream() (said []string, err error) {
	var sessions []*client.Session
	var refs []*client.StreamRef
	var stream *client.Stream
	for range 2 {
		_, s, err := w.send()
		if err != nil {
			return nil, err
		}
		defer s.Close()
		ref, err := s.WaitStream(w.ctx, w.Name)
		if err != nil {
			return nil, err
		}
		if stream == nil {
			if stream, err = ref.Open(w.ctx); err != nil {
				return nil, err
			}
		}
		sessions, refs = append(sessions, s), append(refs, ref)
	}
	same := "False"
	if refs[0].Descriptor().Channel == refs[1].Descriptor().Channel {
		same = "True"
	}
	said = append(said, "same channel "+same)
	var seen []any
	for e, err := range stream.Events(w.ctx) {
		if err != nil {
			return nil, err
		}
		seen = append(seen, e)
		if len(seen) == w.Count {
			break
		}
	}
	said = append(said, "read "+asPython(seen))
	var ends []string
	for _, s := range sessions {
		if err := s.Cancel(w.ctx); err != nil {
			return nil, err
		}
	}
	for _, s := range sessions {
		end, err := s.Wait(w.ctx)
		if err != nil {
			return nil, err
		}
		ends = append(ends, string(end.State))
	}
	slices.Sort(ends)
	return append(said, "ends "+asPythonList(ends)), nil
}

func (w *work) writeStream() ([]string, error) {
	c, s, stream, err := w.sendAndOpen()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for _, chunk := range w.Chunks {
		var text string
		var binary struct{ Size int }
		if json.Unmarshal(chunk, &text) == nil {
			err = stream.WriteText(w.ctx, text)
		} else if err = json.Unmarshal(chunk, &binary); err == nil {
			err = stream.Write(w.ctx, pattern(binary.Size))
		}
		if err != nil {
			return nil, err
		}
	}
	if err := stream.End(w.ctx); err != nil {
		return nil, err
	}
	if w.TaskKind == "pipe" {
		if _, err := w.follow(s, "artifact"); err != nil {
			return nil, err
		}
		if err := s.Cancel(w.ctx); err != nil {
			return nil, err
		}
	}
	return w.outcome(c, s)
}

func (w *work) converse() (said []string, err error) {
	_, s, stream, err := w.sendAndOpen()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	next, stop := iter.Pull2(stream.Events(w.ctx))
	defer stop()
	for _, say := range w.Says {
		if err := stream.WriteEvent(w.ctx, args{"say": say}); err != nil {
			return nil, err
		}
		e, err, ok := next()
		if !ok || err != nil {
			return nil, fmt.Errorf("no answer to %q: %w", say, err)
		}
		said = append(said, "heard "+asPythonText(e))
	}
	if err := stream.WriteEvent(w.ctx, args{"say": "bye"}); err != nil {
		return nil, err
	}
	if _, err := w.follow(s, "artifact"); err != nil {
		return nil, err
	}
	ends, err := w.end(s, stream)
	if err != nil {
		return nil, err
	}
	got, err := w.artifacts(s)
	return slices.Concat(said, got, ends), err
}

func (w *work) lateStream() ([]string, error) {
	c, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := s.WaitStream(w.ctx, w.Name); err != nil {
		return nil, err
	}
	if _, err := w.end(s, nil); err != nil {
		return nil, err
	}
	other, err := c.Connect(w.ctx, s.TaskID())
	if err != nil {
		return nil, err
	}
	defer other.Close()
	refs := other.Streams()
	if len(refs) == 0 {
		return nil, errors.New("the finished task has no streams")
	}
	_, err = refs[0].Open(w.ctx)
	if gone, ok := errors.AsType[*client.StreamUnavailableError](err); ok {
		return []string{fmt.Sprintf("StreamUnavailableError %s %s", gone.DeclaredStream, gone.TerminalState)}, nil
	}
	return []string{"opened"}, err
}

// lateReader opens a stream when everything has been written to it, and its end as well; it tells every element.
func (w *work) lateReader() ([]string, error) {
	_, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := w.follow(s, "status written"); err != nil {
		return nil, err
	}
	_, stream, err := w.open(s, w.Name)
	if err != nil {
		return nil, err
	}
	return w.readToTheEnd(s, stream)
}

// externalStream reads a stream that is written elsewhere: here, by plain HTTP.
func (w *work) externalStream() ([]string, error) {
	_, s, stream, err := w.sendAndOpen()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := w.follow(s, "artifact"); err != nil {
		return nil, err
	}
	told, err := s.Download(w.ctx, s.Artifacts()[0])
	if err != nil {
		return nil, err
	}
	var writer system.Stream
	if err := json.Unmarshal(told.Data, &writer); err != nil {
		return nil, err
	}
	elsewhere, err := system.NewConsumer(w.ctx, w.env)
	if err != nil {
		return nil, err
	}
	defer elsewhere.Close()
	for _, m := range w.Messages {
		if err := elsewhere.WriteStream(w.ctx, writer, m); err != nil {
			return nil, err
		}
	}
	return w.readToTheEnd(s, stream)
}

func (w *work) severalStreams() ([]string, error) {
	_, s, err := w.send()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for _, name := range w.Names {
		if _, err := s.WaitStream(w.ctx, name); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, ref := range s.Streams() {
		names = append(names, ref.Descriptor().DeclaredStream)
	}
	said := []string{"streams " + asPythonList(names), fmt.Sprintf("opened %d", len(s.OpenAll(w.ctx)))}
	ends, err := w.end(s, nil)
	return append(said, ends...), err
}

// asPython is a JSON value as Python prints it: members sorted, a space behind each comma and colon, ASCII only.
func asPython(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return asPythonText(b)
}

func asPythonText(text []byte) string {
	var v any
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return string(text)
	}
	switch v := v.(type) {
	case map[string]any:
		var members []string
		for key, value := range v {
			members = append(members, asPython(key)+": "+asPython(value))
		}
		slices.Sort(members)
		return "{" + strings.Join(members, ", ") + "}"
	case []any:
		var elements []string
		for _, e := range v {
			elements = append(elements, asPython(e))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case string:
		quoted, _ := json.Marshal(v) // texts always encode
		var b strings.Builder
		for _, r := range string(quoted) {
			if r < utf8.RuneSelf {
				b.WriteRune(r)
				continue
			}
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, "\\u%04x", unit)
			}
		}
		return b.String()
	}
	return string(text)
}

func asPythonList(texts []string) string {
	var quoted []string
	for _, t := range texts {
		quoted = append(quoted, "'"+t+"'")
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
