package agent

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/task"
)

// arrival is an artifact between its arrival and the machine's decision about it.
type arrival struct {
	publish func(ctx context.Context) // called by the queue when it is the artifact's turn
	refuse  func()
}

// arrivals are the artifacts that the machine has not decided about. The lock of the job guards them.
type arrivals struct {
	waiting map[int]arrival
	count   int // numbers them
}

func (a *arrivals) put(v arrival) (id int) {
	if a.waiting == nil {
		a.waiting = map[int]arrival{}
	}
	a.count++
	a.waiting[a.count] = v
	return a.count
}

func (a *arrivals) take(id int) arrival {
	v := a.waiting[id]
	delete(a.waiting, id)
	return v
}

// Artifact implements dispatch.TaskPort. It keeps its place in the order of what the task publishes, inline or uploaded.
func (p port) Artifact(ctx context.Context, art wire.Artifact) error {
	if n, limit := art.Length(), p.agent.tunables().ArtifactLimit; n > limit {
		return fmt.Errorf("publish artifact %s of task %s: it has %d bytes, more than the limit of %d", art.OutputID, p.task.ID, n, limit)
	}
	p.agent.checkOutput(p.log, art.OutputID)
	answer := make(chan error, 1)
	p.bring(arrival{
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

func (j *job) bring(b arrival) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stepLocked(task.Artifact{ID: j.artifacts.put(b)})
}

// publishArtifact sends a small artifact inside its event and uploads any other; of an upload the network itself
// publishes the event.
func (j *job) publishArtifact(ctx context.Context, art wire.Artifact) error {
	if art.Open == nil && len(art.Data) <= j.agent.tunables().InlineLimit {
		// An event can be too large in spite of the limit, because of its names; then it is uploaded like a large one.
		if body, err := wire.ArtifactEvent(j.channel.name, j.task.ID, art.OutputID, wire.InlineRef(art)); err == nil {
			err = j.publishEvent(ctx, body)
			if status(err) != http.StatusRequestEntityTooLarge {
				return err
			}
		}
	}
	if err := j.checkOpen(ctx, j.isUncertain()); err != nil {
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
		Open: art.Reader, Published: j.uploaded, Again: func(ctx context.Context) error { return j.checkOpen(ctx, j.isUncertainSince(began)) },
	})
	if final(err) {
		j.agent.fail(err)
	}
	if err == nil && ref.FileID != "" {
		j.channel.uploads = append(j.channel.uploads, ref.FileID)
	}
	return err
}

// uploaded looks for the event of an upload whose last answer was lost: a file on the task's channel that is none of
// the earlier ones. Consumers do not drop duplicates, so the network must not be made to publish it again.
func (j *job) uploaded(ctx context.Context) (wire.ArtifactRef, bool) {
	stored, err := j.session.link.History(ctx, j.channel.name, j.channel.token, j.channel.newest)
	if err != nil {
		j.log.Info("could not look for the event of an upload", "channel", j.channel.name, "err", err)
		return wire.ArtifactRef{}, false
	}
	for _, s := range stored {
		e, err := wire.DecodeEvent(s.Body)
		if err == nil && e.Type == wire.EventArtifact && e.Artifact != nil && e.Artifact.Kind == wire.RefFile && !slices.Contains(j.channel.uploads, e.Artifact.FileID) {
			return *e.Artifact, true
		}
	}
	return wire.ArtifactRef{}, false
}
