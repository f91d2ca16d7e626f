package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
)

// callPrinter prints the events of a task: for people, or as lines of JSON.
type callPrinter struct {
	app    *app
	asJSON bool
	indent string // in front of each line for people
}

// shownBytes is how much of a text artifact is printed; --save gets all of it.
const shownBytes = 4 << 10

func (p *callPrinter) submitted(s *client.Session, agent string) error {
	if p.asJSON {
		return p.line(struct {
			Type   string `json:"type"`
			TaskID string `json:"taskId"`
			Agent  string `json:"agent"`
			Queued bool   `json:"queued"`
		}{"submitted", s.TaskID(), agent, s.Queued()})
	}
	note := ""
	switch {
	case s.Idempotent():
		note = " (submitted before)"
	case s.Queued():
		note = " (queued: no instance is free)"
	}
	p.say("task %s for %s%s", s.TaskID(), agent, note)
	return nil
}

func (p *callPrinter) event(e client.Event) error {
	if p.asJSON {
		b, err := eventLine(e)
		if err != nil {
			return err
		}
		_, err = p.app.Stdout.Write(b)
		return err
	}
	switch e.Type {
	case wire.EventProgress:
		if e.Message != "" {
			p.say("status: %s", e.Message)
		} else if e.State != "" {
			p.say("%s", e.State)
		}
	case wire.EventArtifact:
		if e.Artifact != nil {
			p.artifact(e.OutputID, *e.Artifact)
		}
	case wire.EventCancelRequested:
		p.say("cancel requested")
	case wire.EventSystem:
		p.say("system: %s", e.Message)
	case wire.EventTerminal:
		text := string(e.State)
		for _, why := range []string{e.Error, e.Reason} {
			if why != "" {
				text += ": " + why
			}
		}
		p.say("%s", text)
	}
	return nil
}

func (p *callPrinter) artifact(outputID string, ref wire.ArtifactRef) {
	var names []string
	for _, n := range []string{outputID, ref.FileName} {
		if n != "" {
			names = append(names, n)
		}
	}
	p.say("artifact %s", strings.TrimSpace(strings.Join(names, " ")+fmt.Sprintf(" (%s, %s)", ref.MIMEType, bytesText(ref.Size))))
	media, _, _ := strings.Cut(ref.MIMEType, ";")
	if !strings.HasPrefix(media, "text/") && media != "application/json" && !strings.HasSuffix(media, "+json") {
		return
	}
	data, err := ref.Inline()
	if err != nil {
		return // a stored file
	}
	for line := range strings.Lines(wire.CutText(string(bytes.ToValidUTF8(data, []byte("\uFFFD"))), shownBytes)) {
		p.say("  %s", strings.TrimRight(line, "\r\n"))
	}
}

func (p *callPrinter) saved(path string) {
	if p.asJSON { // the terminal event is the last line of standard output
		fmt.Fprintf(p.app.Stderr, "saved %s\n", path)
		return
	}
	p.say("saved %s", path)
}

// say prints one line without the control characters that an agent may have sent.
func (p *callPrinter) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	spaces := len(text) - len(strings.TrimLeft(text, " "))
	fmt.Fprintln(p.app.Stdout, p.indent+text[:spaces]+printable(text[spaces:]))
}

func (p *callPrinter) line(v any) error {
	enc := json.NewEncoder(p.app.Stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// eventLine is the event as it was received, on one line, with its timetoken.
func eventLine(e client.Event) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.Raw, &members); err != nil {
		return nil, fmt.Errorf("print event of task %s: %w", e.TaskID, err)
	}
	timetoken, err := json.Marshal(e.Timetoken)
	if err != nil {
		return nil, err
	}
	if _, taken := members["timetoken"]; taken || len(members) == 0 { // ours wins; the order of the others is lost
		members["timetoken"] = timetoken
		b, err := json.Marshal(members)
		return append(b, '\n'), err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, e.Raw); err != nil {
		return nil, err
	}
	b.Truncate(b.Len() - 1) // the closing brace
	fmt.Fprintf(&b, `,"timetoken":%s}`+"\n", timetoken)
	return b.Bytes(), nil
}
