package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/task"
)

// port is what a running task offers to whoever works on it.
type port struct{ *job }

var _ dispatch.TaskPort = port{}

// Dispatched implements dispatch.TaskPort.
func (p port) Dispatched(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.machine.PID()
	p.step(task.Dispatched{PID: pid})
	if p.machine.PID() != before {
		p.emitStartedLocked()
	}
}

// Status implements dispatch.TaskPort.
func (p port) Status(text string) { p.post(task.Status{Text: wire.CutText(text, wire.MaxTextBytes)}) }

// broughtArtifact is an artifact between its arrival and the machine's decision about it.
type broughtArtifact struct {
	publish func(ctx context.Context) // called by the queue when it is the artifact's turn
	refuse  func()
}

// errTaskOver answers an artifact that comes after the task's outcome was decided.
var errTaskOver = errors.New("the task is over")

// Artifact implements dispatch.TaskPort. It keeps its place in the order of what the task publishes, inline or uploaded.
func (p port) Artifact(ctx context.Context, art wire.Artifact) error {
	if n := art.Length(); n > p.agent.cfg.ArtifactLimit {
		return fmt.Errorf("publish artifact %s of task %s: it has %d bytes, more than the limit of %d", art.OutputID, p.task.ID, n, p.agent.cfg.ArtifactLimit)
	}
	p.agent.checkOutput(p.log, art.OutputID)
	answer := make(chan error, 1)
	p.bring(broughtArtifact{
		publish: func(queue context.Context) {
			if ctx.Err() != nil || queue.Err() != nil {
				answer <- context.Canceled
				return
			}
			// The caller's end and the task's decision both end the publish, but not at once: a request that is on its way
			// may still have its effect, which the terminal behind it must not overtake.
			once, cancel := context.WithCancel(context.WithoutCancel(queue))
			defer cancel()
			soon := func() {
				timer := time.AfterFunc(p.agent.cfg.Timeouts.InFlight, cancel)
				context.AfterFunc(once, func() { timer.Stop() })
			}
			defer context.AfterFunc(ctx, soon)()
			defer context.AfterFunc(queue, soon)()
			answer <- p.publishArtifact(once, art)
		},
		refuse: func() { answer <- errTaskOver },
	})
	select {
	case err := <-answer:
		if err != nil {
			return fmt.Errorf("publish artifact %s of task %s: %w", art.OutputID, p.task.ID, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("publish artifact %s of task %s: %w", art.OutputID, p.task.ID, ctx.Err())
	}
}

func (j *job) bring(b broughtArtifact) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.arrived++
	if j.brought == nil {
		j.brought = map[int]broughtArtifact{}
	}
	j.brought[j.arrived] = b
	j.step(task.Artifact{ID: j.arrived})
}

// publishArtifact sends a small artifact inside its event and uploads any other; of an upload the network itself
// publishes the event.
func (j *job) publishArtifact(ctx context.Context, art wire.Artifact) error {
	if art.Open == nil && len(art.Data) <= j.agent.cfg.InlineLimit {
		// An event can be too large in spite of the limit, because of its names; then it is uploaded like a large one.
		if body, err := wire.ArtifactEvent(j.channel, j.task.ID, art.OutputID, wire.InlineRef(art)); err == nil {
			err = j.publishEvent(ctx, body)
			if status(err) != http.StatusRequestEntityTooLarge {
				return err
			}
		}
	}
	if err := j.stillOpen(ctx, j.doubtful()); err != nil {
		return err
	}
	name, mime := art.FileName, art.MIMEType
	if name == "" {
		name = j.task.ID + "-artifact"
	}
	if mime == "" {
		mime = wire.DefaultMIMEType
	}
	began := j.agent.cfg.Now()
	ref, err := j.session.auth.UploadOutput(ctx, backend.Upload{
		TaskID: j.task.ID, OutputID: art.OutputID, FileName: name, MIMEType: mime, Size: art.Length(),
		Open: art.Reader, Published: j.uploaded, Again: func(ctx context.Context) error { return j.stillOpen(ctx, j.doubtfulSince(began)) },
	})
	if final(err) {
		j.agent.fail(err)
	}
	if err == nil && ref.FileID != "" {
		j.uploads = append(j.uploads, ref.FileID)
	}
	return err
}

// uploaded looks for the event of an upload whose last answer was lost: a file on the task's channel that is none of
// the earlier ones. Consumers do not drop doubles, so the network must not be made to publish it again.
func (j *job) uploaded(ctx context.Context) (wire.ArtifactRef, bool) {
	stored, err := j.session.link.History(ctx, j.channel, j.token, j.newest)
	if err != nil {
		j.log.Info("could not look for the event of an upload", "channel", j.channel, "err", err)
		return wire.ArtifactRef{}, false
	}
	for _, s := range stored {
		e, err := wire.DecodeEvent(s.Body)
		if err == nil && e.Type == wire.EventArtifact && e.Artifact != nil && e.Artifact.Kind == wire.RefFile && !slices.Contains(j.uploads, e.Artifact.FileID) {
			return *e.Artifact, true
		}
	}
	return wire.ArtifactRef{}, false
}

// Input implements dispatch.TaskPort.
func (p port) Input(ctx context.Context, part int) (dispatch.Input, error) {
	fail := func(err error) (dispatch.Input, error) {
		return dispatch.Input{}, fmt.Errorf("open the file of part %d of task %s: %w", part, p.task.ID, err)
	}
	if part < 0 || part >= len(p.task.Parts) {
		return fail(fmt.Errorf("the task has %d parts", len(p.task.Parts)))
	}
	ref := p.task.Parts[part].File
	if ref == nil {
		return fail(errors.New("the part carries no file"))
	}
	limit := p.agent.inputLimit(p.task.Parts[part].PartID)
	tooLarge := fmt.Errorf("it has more than %d bytes, the most that the agent card or the network allow", limit)
	in := dispatch.Input{Name: ref.FileName, MIMEType: ref.MIMEType, Size: ref.Size}
	if ref.Kind == wire.RefInline {
		data, err := ref.Inline()
		if err != nil {
			return fail(err)
		}
		if int64(len(data)) > limit {
			return fail(tooLarge)
		}
		in.Size, in.Body = int64(len(data)), io.NopCloser(bytes.NewReader(data))
		return in, nil
	}
	if ref.Channel == "" || ref.FileID == "" || ref.FileName == "" {
		return fail(errors.New("its reference lacks channel, fileId or fileName"))
	}
	if ref.Size > limit {
		return fail(tooLarge)
	}
	body, size, err := p.openFile(ctx, ref)
	if err != nil {
		return fail(err)
	}
	if size > limit {
		return fail(errors.Join(tooLarge, body.Close()))
	}
	if in.Size == 0 && size > 0 {
		in.Size = size
	}
	in.Body = &bounded{ReadCloser: body, left: limit, err: fmt.Errorf("read the file of part %d of task %s: %w", part, p.task.ID, tooLarge)}
	return in, nil
}

// openFile begins to download an input, for as long as it takes: a handler could do no better than to ask again.
func (j *job) openFile(ctx context.Context, ref *wire.ArtifactRef) (io.ReadCloser, int64, error) {
	for n := 1; ; n++ {
		body, size, err := j.session.link.OpenFile(ctx, ref.Channel, ref.FileID, ref.FileName, j.token)
		if s := status(err); err == nil || errors.Is(err, link.ErrClosed) || s >= 400 && s < 500 && s != http.StatusTooManyRequests && s != http.StatusRequestTimeout {
			return body, size, err
		}
		j.log.Info("an input could not be opened, trying again", "channel", ref.Channel, "err", err)
		if retry.Pause(ctx, j.agent.cfg.backoff().Delay(n)) != nil {
			return nil, 0, err
		}
	}
}

// inputLimit is the largest file that an input may be, in bytes.
func (a *Agent) inputLimit(part string) int64 {
	for _, in := range a.cfg.Card.Inputs {
		if in.ID == part && in.MaxSizeBytes > 0 {
			return min(int64(in.MaxSizeBytes), wire.MaxArtifactBytes)
		}
	}
	return wire.MaxArtifactBytes
}

// bounded is a file that ends with err when it is larger than it may be: neither what was announced nor the network's
// own limit need be true.
type bounded struct {
	io.ReadCloser
	left int64
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.err
	}
	return n, err
}
