package journal

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The posts of a batch as the log keeps them: the version of the form, then for each post its kind, the agent, the number
// of the task, and the record of the store, with the length before it.

const frameVersion = 1

// cursorMoved is the kind of a cursor in a frame; it is no post.
const cursorMoved postKind = 100

// appendFrame encodes a batch. Posts that have become void are left out.
func appendFrame(b []byte, all batch) []byte {
	b = append(b, frameVersion)
	var record []byte
	for _, p := range all.posts {
		kind := p.kind
		record = record[:0]
		switch {
		case kind == finished && p.entry.void: // of a task that was refused only what may have reached the disk is removed
			kind = dropped
		case (kind == updated || kind == decided) && p.entry.void:
			continue
		case kind == accepted, kind == updated:
			record = appendTask(record, p.task)
		case kind == decided:
			record = appendOutcome(record, p.done.Outcome)
		case kind == finished:
			record = appendFinished(binary.AppendVarint(record, p.done.At.Unix()), p.done)
		case kind == instance:
			record = appendTexts(record, p.text)
		}
		var number uint64
		if p.entry != nil {
			number = p.entry.number
		}
		b = appendPost(b, kind, p.agent.name, number, record)
	}
	for _, c := range all.cursors {
		record = appendTexts(record[:0], c.cursor.channel, c.cursor.timetoken)
		b = appendPost(b, cursorMoved, c.agent.name, 0, record)
	}
	return b
}

func appendPost(b []byte, kind postKind, agent string, number uint64, record []byte) []byte {
	b = append(b, byte(kind))
	b = appendText(b, agent)
	b = binary.AppendUvarint(b, number)
	return appendText(b, record)
}

// decodeFrame is the inverse of appendFrame. agentOf returns the part of an agent.
func decodeFrame(b []byte, agentOf func(name string) *AgentJournal) (all batch, err error) {
	r := newReader(b, frameVersion)
	for len(r.b) > 0 && !r.bad {
		kind := postKind(r.b[0])
		r.b = r.b[1:]
		name, number, record := r.text(), r.uvarint(), []byte(r.text())
		if r.bad || name == "" {
			return batch{}, errRecord
		}
		p := post{kind: kind, agent: agentOf(name), entry: &Entry{number: number}}
		switch kind {
		case accepted, updated:
			p.task, err = decodeTask(record)
		case decided:
			p.done.Outcome, err = decodeOutcome(record)
		case dropped:
		case finished:
			at, n := binary.Varint(record)
			if n <= 0 {
				return batch{}, errRecord
			}
			p.done, err = decodeFinished(record[n:])
			p.done.At = time.Unix(at, 0)
		case instance:
			p.entry = nil
			p.text, err = oneText(record)
		case cursorMoved:
			texts, err := decodeTexts(record, 2)
			if err != nil {
				return batch{}, err
			}
			all.cursors = append(all.cursors, cursorOf{p.agent, cursor{texts[0], texts[1]}})
			continue
		default:
			return batch{}, fmt.Errorf("a post of unknown kind %d: %w", kind, errRecord)
		}
		if err != nil {
			return batch{}, err
		}
		all.posts = append(all.posts, p)
	}
	return all, r.end()
}

func oneText(record []byte) (string, error) {
	texts, err := decodeTexts(record, 1)
	if err != nil {
		return "", err
	}
	return texts[0], nil
}
