package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/blocksd/blocksd/pluginsdk"
)

// streamStep is the argument of the steps about streams.
type streamStep struct {
	Name     string
	Chunks   []json.RawMessage
	Metadata any
	// End is true when it is left out.
	End *bool
	// Repeat writes the chunks so often.
	Repeat int
	// Digest adds the digest of what came, or says how large each event is; Tell publishes what an external writer needs.
	Digest, Tell bool
}

func init() {
	steps["write"] = step((*work).write)
	steps["collect"] = step((*work).collect)
	steps["converse"] = step((*work).converse)
	steps["external"] = step((*work).external)
	steps["symmetry"] = step((*work).symmetry)
	steps["clock"] = step((*work).clock)
	steps["pace"] = step((*work).pace)
	steps["detach"] = step((*work).detach)
	steps["complete"] = step(func(w *work, _ bool) error { w.Complete(); return nil })
}

// write opens a stream and writes chunks to it: texts, and {"hex": …} or {"size": …} as bytes, or any value as an event.
func (w *work) write(a streamStep) error {
	s, err := w.CreateStream(w.ctx, pluginsdk.StreamOptions{Declared: a.Name, Metadata: a.Metadata})
	if err != nil {
		return err
	}
	for range max(1, a.Repeat) {
		for _, chunk := range a.Chunks {
			if err := writeChunk(s, chunk); err != nil {
				return err
			}
		}
	}
	if a.End != nil && !*a.End {
		return nil
	}
	return s.End(w.ctx)
}

func writeChunk(s *pluginsdk.Stream, chunk json.RawMessage) error {
	var binary struct {
		Hex  *string
		Size *int
	}
	if json.Unmarshal(chunk, &binary) == nil && (binary.Hex != nil || binary.Size != nil) {
		var b []byte
		if binary.Size != nil {
			b = output{Size: *binary.Size}.artifact().Data
		} else {
			var err error
			if b, err = hex.DecodeString(*binary.Hex); err != nil {
				return err
			}
		}
		if s.Format == pluginsdk.EventsFormat {
			return s.WriteEvent(b)
		}
		_, err := s.Write(b)
		return err
	}
	if s.Format == pluginsdk.EventsFormat {
		return s.WriteEvent(chunk)
	}
	var text string
	if err := json.Unmarshal(chunk, &text); err != nil {
		return err
	}
	return s.WriteText(text)
}

// collect reads an inbound stream to its end and adds what came to the answer.
func (w *work) collect(a streamStep) error {
	s, err := w.CreateStream(w.ctx, pluginsdk.StreamOptions{Declared: a.Name, Direction: pluginsdk.Inbound})
	if err != nil {
		return err
	}
	b, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if a.Digest {
		return w.text(fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b)))
	}
	return w.text(string(b))
}

// converse answers each event of a bidirectional stream, until the event "bye".
func (w *work) converse(a streamStep) error {
	s, err := w.CreateStream(w.ctx, pluginsdk.StreamOptions{Declared: a.Name, Direction: pluginsdk.Bidirectional, Format: pluginsdk.EventsFormat})
	if err != nil {
		return err
	}
	heard := 0
	for event, err := range s.Events() {
		if err != nil {
			return err
		}
		heard++
		var said struct{ Say string }
		if json.Unmarshal(event, &said) == nil && said.Say == "bye" {
			break
		}
		answer := map[string]any{"heard": event}
		if a.Digest {
			answer = map[string]any{"bytes": len(event)}
		}
		if err := s.WriteEvent(answer); err != nil {
			return err
		}
	}
	if err := s.End(w.ctx); err != nil {
		return err
	}
	return w.text(fmt.Sprintf("heard %d", heard))
}

// external opens a stream for a writer elsewhere, announces it, and says whether there is a token for that, or publishes
// what the writer needs.
func (w *work) external(a streamStep) error {
	s, err := w.CreateStream(w.ctx, pluginsdk.StreamOptions{Declared: a.Name, External: true})
	if err != nil {
		return err
	}
	if err := s.Activate(w.ctx, a.Metadata); err != nil {
		return err
	}
	if a.Tell {
		b, err := json.Marshal(map[string]string{"channel": s.Channel, "token": s.External.Token})
		if err != nil {
			return err
		}
		return w.Publish(w.ctx, pluginsdk.Artifact{MIMEType: "application/json", Data: b})
	}
	if s.External == nil || s.External.Token == "" {
		return w.text("no token")
	}
	return w.text("token")
}
