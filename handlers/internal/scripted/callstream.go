package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
)

// streamsStep is the argument of the step "streams": what is done with the streams of a task that another agent gets. What
// was read is the answer, then how the task ended.
type streamsStep struct {
	Agent, Text string
	// Minutes makes it a pipe task.
	Minutes int
	// Read are the names of streams that are read to their ends, after a pause of so many seconds.
	Read  []string
	Pause float64
	// Write is the name of a stream that Chunks are written to. With Answer an event is read of it after each but the last.
	Write  string
	Chunks []json.RawMessage
	Answer bool
	// Misuse does everything wrongly, with the stream of this name.
	Misuse string
	// Many opens so many streams.
	Many int
	// All waits for so many streams, opens all at once, says "bye" in a conversation and reads the others.
	All int
}

func init() { steps["streams"] = step((*work).streams) }

func (w *work) streams(c streamsStep) error {
	s, err := w.Call(w.ctx, pluginsdk.Message{
		Agent: c.Agent, Stream: true, Duration: time.Duration(c.Minutes) * time.Minute, Parts: []pluginsdk.Input{pluginsdk.TextInput("request", c.Text)},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	w.Status("called " + s.TaskID())
	for _, name := range c.Read {
		err := w.readOf(s, name, c.Pause)
		if err != nil {
			return err
		}
	}
	if c.All > 0 {
		if err := w.allOf(s, c.All); err != nil {
			return err
		}
	}
	if c.Write != "" {
		if err := w.writeOf(s, c); err != nil {
			return err
		}
	}
	if c.Many > 0 {
		return w.openMany(s, c.Many)
	}
	if c.Misuse != "" {
		return w.misuse(s, c.Misuse)
	}
	end, err := s.Wait(w.ctx)
	if err != nil {
		return err
	}
	for _, a := range s.Artifacts() {
		data, err := s.Download(w.ctx, a)
		if err != nil {
			return err
		}
		if err := w.text(string(data)); err != nil {
			return err
		}
	}
	return w.text(strings.TrimSpace(end.State + " " + end.Error))
}

func (w *work) openOf(s *pluginsdk.Session, name string) (*pluginsdk.Stream, error) {
	ref, err := s.WaitStream(w.ctx, name)
	if err != nil {
		return nil, err
	}
	return ref.Open(w.ctx)
}

func (w *work) readOf(s *pluginsdk.Session, name string, pause float64) error {
	in, err := w.openOf(s, name)
	if err != nil {
		return err
	}
	w.Status("opened " + name)
	time.Sleep(duration(pause))
	return w.readToItsEnd(in, name)
}

func (w *work) readToItsEnd(in *pluginsdk.Stream, name string) error {
	if in.Format == pluginsdk.EventsFormat {
		n, last := 0, ""
		for e, err := range in.Events() {
			if err != nil {
				return err
			}
			n, last = n+1, string(e)
		}
		return w.text(fmt.Sprintf("%s: %d events, then %s", name, n, last))
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if len(b) > 100 {
		return w.text(fmt.Sprintf("%s: %d bytes", name, len(b)))
	}
	return w.text(name + ": " + string(b))
}

func (w *work) allOf(s *pluginsdk.Session, n int) error {
	seen := 0
	if _, err := s.WaitStreamFunc(w.ctx, func(*pluginsdk.CalledStream) bool { seen++; return seen == n }); err != nil {
		return err
	}
	all := s.OpenAll(w.ctx)
	for _, stream := range all {
		if stream.Direction != pluginsdk.Bidirectional {
			continue
		}
		if err := stream.WriteEvent(map[string]string{"say": "bye"}); err != nil {
			return err
		}
		if err := stream.End(w.ctx); err != nil {
			return err
		}
	}
	for _, stream := range all {
		if stream.Direction == pluginsdk.Bidirectional {
			continue
		}
		if err := w.readToItsEnd(stream, stream.Declared); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) writeOf(s *pluginsdk.Session, c streamsStep) error {
	out, err := w.openOf(s, c.Write)
	if err != nil {
		return err
	}
	for i, chunk := range c.Chunks {
		if err := writeChunk(out, chunk); err != nil {
			return err
		}
		if !c.Answer || i == len(c.Chunks)-1 {
			continue
		}
		for e, err := range out.Events() {
			if err != nil {
				return err
			}
			if err := w.text(string(e)); err != nil {
				return err
			}
			break
		}
	}
	if err := out.Flush(w.ctx); err != nil {
		return err
	}
	return out.End(w.ctx)
}

// openMany opens the streams of a task until it may not, and says how many there were and why it may not.
func (w *work) openMany(s *pluginsdk.Session, n int) error {
	opened := map[string]bool{}
	for len(opened) < n {
		if _, err := s.WaitStream(w.ctx, fmt.Sprintf("%s-%d", s.TaskID(), len(opened)+1)); err != nil {
			return err
		}
		for _, ref := range s.Streams() {
			if opened[ref.ID] {
				continue
			}
			if _, err := ref.Open(w.ctx); err != nil {
				return w.text(fmt.Sprintf("%d: %s", len(opened), afterColon(err)))
			}
			opened[ref.ID] = true
		}
	}
	return w.text(fmt.Sprintf("%d", len(opened)))
}

// afterColon is an error without what was attempted.
func afterColon(err error) string {
	_, why, found := strings.Cut(err.Error(), ": ")
	if !found {
		return err.Error()
	}
	return why
}

func (w *work) misuse(s *pluginsdk.Session, name string) error {
	var said []string
	note := func(what string, err error) {
		text := "nothing"
		if err != nil {
			text = afterColon(err)
		}
		said = append(said, what+": "+strings.ReplaceAll(text, s.TaskID(), "TASK"))
	}
	in, err := w.openOf(s, name)
	if err != nil {
		return err
	}
	again, err := w.openOf(s, name)
	if err == nil && again != in {
		err = fmt.Errorf("x: another one")
	}
	note("open again", err)
	_, err = in.Write([]byte("x"))
	note("write", err)
	note("fail", in.Fail(w.ctx, "on purpose"))
	note("activate", in.Activate(w.ctx, nil))
	note("end", in.End(w.ctx))
	note("end again", in.End(w.ctx))
	_, err = in.Read(make([]byte, 1))
	note("read after the end", err)
	if err := s.Cancel(w.ctx); err != nil {
		return err
	}
	if _, err := s.Wait(w.ctx); err != nil {
		return err
	}
	return w.text(strings.Join(said, "\n"))
}
