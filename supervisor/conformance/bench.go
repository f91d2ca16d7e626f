package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/plug"
)

// Program is what to start as a handler.
type Program struct {
	// Path of its file. Name is the handler's; the file name when it is empty.
	Path, Name string
	// Interpreter is executed instead, "" for the file itself; Args then name the file.
	Interpreter string
	Args        []string
	Dir         string
	// Needed are files and directories that it reads, although they may be below closed ones.
	Needed []string
	// Environment names variables of this process that it gets beside the usual ones; Variables are further ones, KEY=value.
	Environment, Variables []string
	// Card is the path of its card; "" for the one beside it, or those that it returns.
	Card string
}

// OfProject is the handler of a project.
func OfProject(f catalog.Found) Program {
	p := Program{Path: f.Path, Name: f.Name, Dir: f.Dir, Card: f.CardPath}
	if f.Project != nil {
		p.Interpreter, p.Args, p.Variables, p.Needed = f.Project.Interpreter, f.Project.Args, f.Project.Environment, f.Project.Needed
	}
	return p
}

func (p Program) name() string {
	if p.Name != "" {
		return p.Name
	}
	return filepath.Base(p.Path)
}

// Bench starts handlers as a daemon does, without one. Close must follow.
type Bench struct {
	log     *slog.Logger
	walls   *Walls
	dirs    *launch.SocketDirs
	spawner *launch.Spawner
	stop    context.CancelFunc
	running sync.WaitGroup
}

// NewBench prepares a bench. What handlers log goes to log; nil walls are none.
func NewBench(log *slog.Logger, walls *Walls) (*Bench, error) {
	dirs, err := launch.OpenSocketDirs("", "", nil)
	if err != nil {
		return nil, err
	}
	b := &Bench{log: log, walls: walls, dirs: dirs, spawner: launch.NewSpawner()}
	if walls != nil && walls.Machine != nil {
		walls.Machine.CloseFiles(append(slices.Clone(walls.Closed), dirs.Base()), walls.Sockets)
	}
	var spawning context.Context
	spawning, b.stop = context.WithCancel(context.Background())
	b.running.Go(func() { _ = b.spawner.Run(spawning) }) // it ends with stop
	return b, nil
}

// Close frees what the bench holds. Its handlers must have been stopped.
func (b *Bench) Close() {
	b.stop()
	b.running.Wait()
	_ = b.dirs.Close() // nothing depends on it: the directory is temporary
}

// patience is more than a daemon has by default: a machine that builds and tests may be very busy.
const patience = 3 * slowStart

// Handler is a handler process on a bench.
type Handler struct {
	conn *plug.Conn
	// Description is what it says of itself.
	Description plug.Description
	// Took is how long it needed to get ready.
	Took time.Duration
}

// Start starts a program and returns when it is ready for tasks. Stop must follow.
func (b *Bench) Start(ctx context.Context, p Program) (*Handler, error) {
	at := time.Now()
	path := p.Path
	if p.Interpreter != "" {
		path = p.Interpreter
	}
	c := plug.Config{
		Handler: p.name(), Path: path, Args: p.Args, Dir: p.Dir, Interpreter: p.Interpreter != "", Needed: p.Needed, Environment: launch.Merge(launch.Environment(os.Environ(), p.Environment), p.Variables),
		Spawner: b.spawner, Dirs: b.dirs, Log: b.log, Timeouts: plug.Timeouts{Handshake: patience},
	}
	if b.walls != nil {
		c.Machine = b.walls.Machine
		c.Limits, c.MTLS = b.walls.Of(p.name())
	}
	conn, err := plug.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Handler{conn, conn.Description(), time.Since(at)}, nil
}

// Stop asks the process to end as a daemon does, and reports whether it has.
func (h *Handler) Stop() (stopped bool) {
	if stopped = h.conn.Stop(); stopped {
		h.conn.Close()
	}
	return stopped
}

// Task is a task for a handler.
type Task struct {
	wire.Task
	// Files are the bytes of the parts that carry a file, by their index.
	Files map[int][]byte
	// Streams are those that the card declares; Inbound is what the consumer writes into each that it may write.
	Streams map[string]card.Stream
	Inbound []dispatch.StreamItem
	// OnAssigned is called once the task can be canceled, which may be before the handler has it; nil for none.
	OnAssigned func()
	// OnStatus is called with each status; nil for none.
	OnStatus func(text string)
}

// Outcome is how a task went.
type Outcome struct {
	Statuses  []string
	Artifacts []Artifact
	Streams   []Stream
	// Err is nil when the handler succeeded; a *dispatch.TaskFailure when it failed.
	Err  error
	Took time.Duration
}

// Artifact is one that a handler has published.
type Artifact struct {
	OutputID, FileName, MIMEType string
	Data                         []byte
}

// Do gives a task to the handler and returns when it has ended. When ctx ends, the call is ended as by a daemon that stops.
func (h *Handler) Do(ctx context.Context, t Task) Outcome {
	p := &port{task: t}
	at := time.Now()
	done := make(chan error, 1)
	assigned := func() bool {
		if t.OnAssigned != nil {
			t.OnAssigned()
		}
		return true
	}
	h.conn.Start(ctx, &t.Task, p, plug.Hooks{Assigned: assigned, Done: func(err error) { done <- err }})
	err := <-done
	p.mu.Lock()
	defer p.mu.Unlock()
	o := Outcome{Statuses: p.statuses, Artifacts: p.artifacts, Err: err, Took: time.Since(at)}
	for _, s := range p.streams {
		o.Streams = append(o.Streams, s.result())
	}
	return o
}

// Cancel asks the handler to end a task.
func (h *Handler) Cancel(ctx context.Context, taskID string, reason dispatch.CancelReason, grace time.Duration) error {
	return h.conn.CancelTask(ctx, taskID, reason, grace)
}

// port takes what a handler publishes, in place of the network.
type port struct {
	dispatch.NoStreams // for what is no stream in it

	task Task

	mu        sync.Mutex // guards what follows
	statuses  []string
	artifacts []Artifact
	streams   []*stream
}

// Dispatched implements dispatch.TaskPort.
func (p *port) Dispatched(int) {}

// Status implements dispatch.TaskPort.
func (p *port) Status(text string) {
	p.mu.Lock()
	p.statuses = append(p.statuses, text)
	p.mu.Unlock()
	if p.task.OnStatus != nil {
		p.task.OnStatus(text)
	}
}

// Artifact implements dispatch.TaskPort.
func (p *port) Artifact(_ context.Context, a wire.Artifact) error {
	r, err := a.Reader()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.artifacts = append(p.artifacts, Artifact{a.OutputID, a.FileName, a.MIMEType, data})
	return nil
}

// Input implements dispatch.TaskPort.
func (p *port) Input(_ context.Context, part int) (dispatch.Input, error) {
	data, ok := p.task.Files[part]
	if !ok || part < 0 || part >= len(p.task.Parts) || p.task.Parts[part].File == nil {
		return dispatch.Input{}, fmt.Errorf("input number %d has no file", part+1)
	}
	f := p.task.Parts[part].File
	return dispatch.Input{Name: f.FileName, MIMEType: f.MIMEType, Size: int64(len(data)), Body: io.NopCloser(bytes.NewReader(data))}, nil
}
