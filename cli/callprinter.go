package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
)

// callPrinter prints what a task does: for people, or as lines of JSON. Events and streams may come from several
// goroutines.
type callPrinter struct {
	results io.Writer // lines of JSON, and what streams carry
	notes   io.Writer // what people read
	errors  io.Writer
	asJSON  bool
	indent  string // in front of each line for people
	style   style
	width   int  // of the terminal
	live    bool // notes is a terminal: the last status text is kept on its last line
	plain   bool // results is not a terminal: it gets the bytes of streams as they are

	streamLines bool // streams are shown among the notes, a line for each item

	// lose is called when the results cannot be written any more; nil where nobody needs to know. aside means that notes are
	// no results, and mixed that both are on one terminal.
	lose         context.CancelCauseFunc
	aside, mixed bool

	mu     sync.Mutex // guards the writers and what follows
	status string     // on the last line, if there is one
	open   bool       // the last line of the results has not ended
	broken bool       // results cannot be written

	lostMu sync.Mutex // guards lost
	lost   *lostOutput
}

// newCallPrinter prints to standard output. When streams are shown, standard output is theirs.
func (a *app) newCallPrinter(o watchOptions, lose context.CancelCauseFunc) *callPrinter {
	streams := o.stream && o.streamDir == ""
	p := &callPrinter{results: a.Stdout, notes: a.Stdout, errors: a.Stderr, asJSON: o.asJSON, style: a.style(), width: a.width(), plain: !isTerminal(a.Stdout), lose: lose}
	if streams {
		p.notes, p.style, p.aside = a.Stderr, style{}, true
		p.mixed = !p.plain && isTerminal(a.Stderr)
	}
	p.live = !streams && isTerminal(a.Stdout) && a.getenv("TERM") != "dumb"
	return p
}

// shownBytes is how much of a text artifact is printed; --save gets all of it.
const shownBytes = 4 << 10

func (p *callPrinter) submitted(s *client.Session, agent string) {
	if p.asJSON {
		_ = p.line(struct { // lose has the error
			Type   string `json:"type"`
			TaskID string `json:"taskId"`
			Agent  string `json:"agent"`
			Queued bool   `json:"queued"`
		}{"submitted", s.TaskID(), agent, s.Queued()})
		return
	}
	note := ""
	switch {
	case s.Idempotent():
		note = " (submitted before)"
	case s.Queued():
		note = " (queued: no instance is free)"
	}
	p.say("task %s for %s%s", s.TaskID(), agent, note)
}

// event prints an event. The error is that of an event that cannot be shown.
func (p *callPrinter) event(e client.Event) error {
	if p.asJSON {
		b, err := e.JSON()
		if err != nil {
			return err
		}
		_ = p.write(append(b, '\n')) // lose has the error
		return nil
	}
	switch e.Type {
	case wire.EventProgress:
		if e.Message != "" {
			p.progress(e.Message)
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
		p.clear()
		text := string(e.State)
		for _, why := range []string{e.Error, e.Reason} {
			if why != "" {
				text += ": " + why
			}
		}
		p.sayIn(toneOf(e.State), text)
	}
	return nil
}

func toneOf(s client.State) tone {
	switch s {
	case client.Completed:
		return good
	case client.Failed:
		return bad
	}
	return odd
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
		fmt.Fprintf(p.errors, "saved %s\n", printable(path))
		return
	}
	p.say("saved %s", path)
}

// say prints one line without the control characters that an agent may have sent.
func (p *callPrinter) say(format string, args ...any) {
	p.sayIn(ordinary, fmt.Sprintf(format, args...))
}

func (p *callPrinter) sayIn(t tone, text string) {
	spaces := len(text) - len(strings.TrimLeft(text, " "))
	line := p.indent + text[:spaces] + p.style.of(t, printable(text[spaces:]))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status == "" {
		p.noteLocked(line + "\n")
		return
	}
	p.noteLocked(eraseLine + line + "\n" + p.status)
}

// remark prints a line to standard error, and keeps it apart from the status text.
func (p *callPrinter) remark(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != "" {
		p.noteLocked(eraseLine)
	}
	p.breakLocked()
	fmt.Fprintln(p.errors, printable(text))
	if p.status != "" {
		p.noteLocked(p.status)
	}
}

// progress shows a status text: on the last line of a terminal, so that many do not push out what matters.
func (p *callPrinter) progress(text string) {
	if !p.live {
		p.say("status: %s", text)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = p.style.of(dim, cut(p.indent+"status: "+printable(text), p.width-1))
	p.noteLocked(eraseLine + p.status)
}

// shownTransfer is from which size on a transfer is shown while it lasts.
const shownTransfer = 1 << 20

// transfer shows on the last line of a terminal how far an upload or a download has come.
func (p *callPrinter) transfer(what, name string, done, size int64) {
	if !p.live || size < shownTransfer {
		return
	}
	percent := min(100*done/size, 100)
	const columns = 20
	full := int(percent) * columns / 100
	line := fmt.Sprintf("%s [%s%s] %3d %% of %s %s", what, strings.Repeat("#", full), strings.Repeat(".", columns-full), percent, bytesText(size), printable(name))
	p.mu.Lock()
	defer p.mu.Unlock()
	if line = cut(line, p.width-1); line != p.status {
		p.status = line
		p.noteLocked(eraseLine + line)
	}
}

// clear removes the status text from the terminal.
func (p *callPrinter) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != "" {
		p.noteLocked(eraseLine)
		p.status = ""
	}
}

// line prints a value as a line of JSON.
func (p *callPrinter) line(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return p.write(b.Bytes())
}

// write prints results. The error has been noted.
func (p *callPrinter) write(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writeLocked(b)
	if p.broken {
		return p.failure()
	}
	return nil
}

func (p *callPrinter) writeLocked(b []byte) {
	if p.broken || len(b) == 0 {
		return
	}
	p.open = b[len(b)-1] != '\n'
	if _, err := p.results.Write(b); err != nil {
		p.broken = true
		p.giveUp(&lostOutput{toStdout, err})
	}
}

func (p *callPrinter) noteLocked(text string) {
	if !p.aside {
		p.writeLocked([]byte(text))
		return
	}
	p.breakLocked()
	if _, err := io.WriteString(p.notes, text); errors.Is(err, syscall.EPIPE) { // nobody watches any more
		p.giveUp(&lostOutput{toStderr, err})
	}
}

// breakLocked lets a note begin on a line of its own: what a stream carries may end anywhere.
func (p *callPrinter) breakLocked() {
	if p.mixed && p.open {
		p.writeLocked([]byte("\n"))
	}
}

// endText ends the text of a stream on a terminal, with what is left of it, so that nothing else stands on its last line.
func (p *callPrinter) endText(rest string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.plain && (p.open || rest != "") {
		p.writeLocked([]byte(rest + "\n"))
	}
	if p.broken {
		return p.failure()
	}
	return nil
}

// giveUp notes that something could not be written, so that what goes on is in vain.
func (p *callPrinter) giveUp(err error) {
	lost, ok := errors.AsType[*lostOutput](err)
	if !ok {
		lost = &lostOutput{"print", err}
	}
	p.lostMu.Lock()
	if p.lost == nil {
		p.lost = lost
	}
	p.lostMu.Unlock()
	if p.lose != nil {
		p.lose(lost)
	}
}

// failure is the first thing that could not be written, nil for none.
func (p *callPrinter) failure() *lostOutput {
	p.lostMu.Lock()
	defer p.lostMu.Unlock()
	return p.lost
}
