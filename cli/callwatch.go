package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/blocksd/blocksd/client"
)

// watchOptions are what a command takes that follows a task.
type watchOptions struct {
	stream    bool
	streamDir string
	save      string
	timeout   time.Duration
	limited   bool // --timeout was given
	asJSON    bool
}

func (o *watchOptions) flags(f *pflag.FlagSet, timeout string) {
	f.BoolVar(&o.stream, "stream", false, "show what the agent streams: bytes as they come, events as lines of JSON; all else goes to standard error")
	f.StringVar(&o.streamDir, "stream-dir", "", "directory to write each stream to, as a file of its name")
	f.StringVar(&o.save, "save", "", "directory to save the artifacts in")
	f.DurationVar(&o.timeout, "timeout", 0, timeout)
	f.BoolVar(&o.asJSON, "json", false, "print each event as a line of JSON")
}

// streams reports whether streams are read.
func (o watchOptions) streams() bool { return o.stream || o.streamDir != "" }

// check returns what is wrong with the options, before the network is asked.
func (o watchOptions) check() error {
	if o.limited && o.timeout <= 0 {
		return fmt.Errorf("--timeout must be more than 0, not %s", o.timeout)
	}
	return nil
}

// prepare makes the directories that results go to, so that a task is not done in vain.
func (o watchOptions) prepare() error {
	if o.save != "" {
		if err := checkWritable(o.save); err != nil {
			return fmt.Errorf("artifacts cannot be saved in %s: %w", o.save, err)
		}
	}
	if o.streamDir != "" {
		if err := checkWritable(o.streamDir); err != nil {
			return fmt.Errorf("streams cannot be written to %s: %w", o.streamDir, err)
		}
	}
	return nil
}

// watch prints the events of a task up to the terminal one, and what the agent streams. It calls ended when the terminal
// event has come, but prints that last, once the streams have ended, which the session sees to. If ctx ends meanwhile,
// it returns the terminal event with the cause.
func (o watchOptions) watch(ctx context.Context, s *client.Session, out *callPrinter, ended func()) (client.Event, error) {
	defer out.clear()
	var viewers sync.WaitGroup
	defer viewers.Wait()
	viewing, stop := context.WithCancel(ctx)
	defer stop() // before the wait
	view := newStreamView(o, s, out)
	for e, err := range s.Events(ctx) {
		if err != nil {
			return client.Event{}, err
		}
		terminal := e.Type == client.EventTerminal
		if terminal {
			ended()
		} else if err := out.event(e); err != nil {
			return client.Event{}, err
		}
		if o.streams() {
			view.follow(viewing, e, &viewers)
		}
		if terminal {
			viewers.Wait()
			return e, errors.Join(out.event(e), context.Cause(ctx))
		}
	}
	return client.Event{}, fmt.Errorf("follow task %s: its events ended without an outcome", s.TaskID())
}

// saveArtifacts downloads what the task has published and says where it is.
func (o watchOptions) saveArtifacts(ctx context.Context, s *client.Session, out *callPrinter) error {
	if o.save == "" {
		return nil
	}
	paths, err := s.Save(ctx, o.save, client.SaveProgress(func(a client.Artifact, done int64) {
		out.transfer("downloading", a.FileName, done, a.Size)
	}))
	out.clear()
	for _, p := range paths {
		out.saved(p)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("save artifacts of task %s in %s: %w", s.TaskID(), o.save, cause)
		}
		return fmt.Errorf("%w; blocksd follow %s --save DIR tries again", err, s.TaskID())
	}
	return nil
}

// outcome turns the end of a task into an exit code. The event itself has been printed.
func outcome(taskID string, e client.Event) error {
	code := 0
	switch e.State {
	case client.Completed:
		return nil
	case client.Canceled:
		code = exitCanceled
	default:
		code = exitFailed
	}
	return &exitError{code: code, err: fmt.Errorf("task %s ended as %s", taskID, e.State), silent: true}
}
