package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/retry"
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
	p.stepLocked(task.Dispatched{PID: pid})
	if p.machine.PID() != before {
		p.emitStartedLocked()
	}
}

// Status implements dispatch.TaskPort.
func (p port) Status(text string) { p.post(task.Status{Text: wire.CutText(text, wire.MaxTextBytes)}) }

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
		body, size, err := j.session.link.OpenFile(ctx, ref.Channel, ref.FileID, ref.FileName, j.channel.token)
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
