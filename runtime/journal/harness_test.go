package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// patience is how long a test waits for something that must happen. It bounds hangs: a machine may stand still for a while.
const patience = 3 * time.Minute

// testLogBytes is small, so that tests come to the end of the log.
const testLogBytes = 16 * logBlock

var testSecret = bytes.Repeat([]byte("k"), minSecretBytes)

// fataler is what testing.TB and rapid.T have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func open(t fataler, dir string, change func(*Config)) *Journal {
	t.Helper()
	cfg := Config{Dir: dir, Secret: testSecret, mapBytes: 4096, logBytes: testLogBytes}
	if change != nil {
		change(&cfg)
	}
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func shut(t fataler, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func agent(t fataler, j *Journal, agent string) *AgentJournal {
	t.Helper()
	b, err := j.Agent(agent)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// flush waits until everything that was posted is on the disk. A read alone would not do: it does not need the disk.
func flush(t fataler, j *Journal, b *AgentJournal) {
	t.Helper()
	done := make(chan error, 1)
	j.post(post{kind: instance, agent: b, text: b.InstanceID(), durable: func(err error) { done <- err }})
	wait(t, done)
}

func wait(t fataler, done <-chan error) {
	t.Helper()
	if err := result(t, done); err != nil {
		t.Fatal(err)
	}
}

func result(t fataler, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("the journal does not answer")
		panic("unreachable")
	}
}

func accept(b *AgentJournal, t Task) (*Entry, <-chan error) {
	done := make(chan error, 1)
	return b.Accept(t, func(err error) { done <- err }), done
}

func decide(e *Entry, o wire.Terminal) <-chan error {
	done := make(chan error, 1)
	e.Decide(o, func(err error) { done <- err })
	return done
}

// contents is all that the journal says of an agent.
type contents struct {
	Instance, Cursor string
	Open             []openTask
	Finished         []Finished
}

type openTask struct {
	Task    Task
	Outcome *wire.Terminal
}

const testChannel = "agent.x.control"

func read(t fataler, b *AgentJournal) contents {
	t.Helper()
	c := contents{Instance: b.InstanceID(), Cursor: b.Cursor(testChannel)}
	entries, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		c.Open = append(c.Open, openTask{e.Task, e.Outcome})
	}
	if c.Finished, err = b.Finished(); err != nil {
		t.Fatal(err)
	}
	return c
}

// image is the content of the store.
func image(t fataler, dir string) []byte { return fileOf(t, dir, FileName) }

func putImage(t fataler, dir string, content []byte) { putFile(t, dir, FileName, content) }

func fileOf(t fataler, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func putFile(t fataler, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}
