package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/network/wire"
)

const (
	// cancelTimeout bounds asking the network to cancel; canceledTimeout is how long the outcome may take then: the
	// network itself ends a canceled task after 30 s.
	cancelTimeout   = 10 * time.Second
	canceledTimeout = 45 * time.Second
	// expiredTimeout is how long the outcome of a task may take that was canceled because its time was over: longer than
	// a daemon gives a handler to let go, shorter than who set a limit would want to wait.
	expiredTimeout = 10 * time.Second
)

type callOptions struct {
	agent          string
	parts          []partFlag
	limited, piped bool // --timeout, --pipe were given
	stream         bool
	pipe           int
	save           string
	timeout        time.Duration
	asJSON         bool
	idempotencyKey string
}

func newCall(a *app) *cobra.Command {
	var o callOptions
	cmd := &cobra.Command{
		Use: "call AGENT", Short: "Send an agent a task and follow it to its end", Args: exactly(1, "blocksd call AGENT --text TEXT"),
		Long: "Send an agent a task and follow it to its end. Exits with 0 when the task completed, 4 when it failed, 5 when it was\n" +
			"canceled, 6 when it did not end within --timeout. Ctrl-C cancels the task and waits for its end; a second one leaves.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.agent = args[0]
			o.limited, o.piped = cmd.Flags().Changed("timeout"), cmd.Flags().Changed("pipe")
			return a.call(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.Var(partValue{&o.parts, partText, false}, "text", "text for the agent's first text input")
	f.Var(partValue{&o.parts, partJSON, false}, "json-part", "JSON document for the agent's first form input")
	f.Var(partValue{&o.parts, partText, true}, "part", "text of one part; may be repeated")
	f.Var(partValue{&o.parts, partFile, true}, "file", "file of one part; may be repeated")
	f.BoolVar(&o.stream, "stream", false, "ask for live streams")
	f.IntVar(&o.pipe, "pipe", 0, "make it a pipe task of so many minutes")
	f.StringVar(&o.save, "save", "", "directory to save the artifacts in")
	f.DurationVar(&o.timeout, "timeout", 0, "cancel the task when it has not ended by then, such as 30s (default: wait for ever)")
	f.BoolVar(&o.asJSON, "json", false, "print each event as a line of JSON")
	f.StringVar(&o.idempotencyKey, "idempotency-key", "", "repeat a call with the same key to get the same task")
	return cmd
}

var (
	errTimedOut = errors.New("the time is over")
	errLeft     = errors.New("left before the end")
)

func (a *app) call(ctx context.Context, o callOptions) error {
	if err := wire.CheckAgentName(o.agent); err != nil {
		return usagef("call: %w", err)
	}
	if o.limited && o.timeout <= 0 || o.piped && o.pipe < 1 || o.pipe > wire.MaxPipeMinutes {
		return usagef("call %s: --timeout must be positive and --pipe from 1 to %d minutes", o.agent, wire.MaxPipeMinutes)
	}
	key := a.getenv("BLOCKS_API_KEY")
	if key == "" {
		return usagef("call %s: %w", o.agent, errNoKey)
	}
	// life ends when the user leaves for good, or the outcome does not come; asked ends already at the first interrupt
	// and when the time is over.
	life, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	asked, done := a.interruptible(life)
	defer done()
	if o.limited {
		var stop context.CancelFunc
		asked, stop = context.WithTimeoutCause(asked, o.timeout, errTimedOut)
		defer stop()
	}

	warnings := &notes{w: a.Stderr}
	cfg := client.Config{Deployment: deployment.FromEnvironment(a.getenv), APIKey: key, Log: slog.New(warnings)}
	c, err := client.New(asked, cfg)
	if err != nil {
		return o.notSubmitted(asked, err)
	}
	defer c.Close()
	req, err := o.request(asked, c)
	if err != nil {
		return o.notSubmitted(asked, err)
	}
	session, err := c.Submit(asked, req)
	if err != nil {
		return o.notSubmitted(asked, err)
	}
	defer session.Close()
	out := callPrinter{app: a, asJSON: o.asJSON}
	if err := out.submitted(session, o.agent); err != nil {
		return err
	}

	warnings.on.Store(true)
	over, end := context.WithCancel(life)
	canceler := make(chan struct{})
	go func() {
		defer close(canceler)
		a.cancelWhenAsked(over, asked, session, leave)
	}()
	terminal, err := follow(life, session, &out)
	end()
	<-canceler
	expired := errors.Is(context.Cause(asked), errTimedOut)
	switch {
	case err != nil:
		return unfinished(life, session, o, err)
	case expired:
		end := "so it was canceled"
		if terminal.State != wire.Canceled {
			end = "and was asked to end; it ended as " + string(terminal.State)
		}
		return &exitError{code: exitTimedOut, err: fmt.Errorf("call %s: task %s did not end within %s, %s", o.agent, terminal.TaskID, o.timeout, end)}
	}
	if o.save != "" {
		paths, err := session.Save(asked, o.save)
		for _, p := range paths {
			out.saved(p)
		}
		if err != nil {
			return err
		}
	}
	return outcome(terminal)
}

// request builds the task. The card says what --text and --json-part mean.
func (o callOptions) request(ctx context.Context, c *client.TaskClient) (client.Request, error) {
	r := client.Request{AgentName: o.agent, IdempotencyKey: o.idempotencyKey}
	if o.stream {
		r.Stream = &o.stream
	}
	if o.piped {
		r.Kind, r.DurationMinutes = wire.Pipe, o.pipe
	}
	for _, p := range o.parts {
		part := client.Part{ID: p.id}
		if part.ID == "" {
			inputs, err := lookUpInputs(ctx, c, o.agent)
			if err != nil {
				return r, err
			}
			part.ID = defaultInput(inputs, p.kind)
		}
		switch p.kind {
		case partText:
			part.Text = &p.text
		case partJSON:
			part.JSON = json.RawMessage(p.text)
		case partFile:
			part.Path = p.text
		}
		for _, other := range r.Parts {
			if other.ID == part.ID {
				return r, usagef("call %s: the part %s is given twice", o.agent, part.ID)
			}
		}
		r.Parts = append(r.Parts, part)
	}
	return r, nil
}

// cancelWhenAsked cancels the task at the first interrupt or when its time is over, whichever ends asked, and leaves at
// the second interrupt or when the outcome does not come.
func (a *app) cancelWhenAsked(ctx, asked context.Context, s *client.Session, leave context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
		return
	case <-asked.Done():
	}
	why, patience := errLeft, canceledTimeout
	if errors.Is(context.Cause(asked), errTimedOut) {
		why, patience = errTimedOut, expiredTimeout
	} else {
		fmt.Fprintf(a.Stderr, "canceling task %s; interrupt again to leave it\n", s.TaskID())
	}
	canceled := make(chan struct{})
	go func() {
		defer close(canceled)
		if err := cancelTask(ctx, s); err != nil && ctx.Err() == nil {
			fmt.Fprintf(a.Stderr, "blocksd: %s\n", err)
		}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-a.Interrupts.Second:
		leave(errLeft)
	case <-timer.C:
		leave(why)
	}
	<-canceled
}

func cancelTask(ctx context.Context, s *client.Session) error {
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	if err := s.Cancel(ctx); err != nil {
		return fmt.Errorf("cancel task %s: %w", s.TaskID(), err)
	}
	return nil
}

// follow prints the events up to the terminal one.
func follow(ctx context.Context, s *client.Session, out *callPrinter) (wire.Event, error) {
	for e, err := range s.Events(ctx) {
		if err != nil {
			return wire.Event{}, err
		}
		if err := out.event(e); err != nil {
			return wire.Event{}, err
		}
		if e.Type == wire.EventTerminal {
			return e.Event, nil
		}
	}
	return wire.Event{}, fmt.Errorf("follow task %s: its events ended without an outcome", s.TaskID())
}

func (o callOptions) notSubmitted(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimedOut):
		return &exitError{code: exitTimedOut, err: fmt.Errorf("call %s: the network did not take the task within %s", o.agent, o.timeout)}
	case errors.Is(cause, errInterrupted):
		return fmt.Errorf("call %s: interrupted before the task was known to be taken", o.agent)
	case errors.Is(err, backend.ErrNotFound):
		return fmt.Errorf("call %s: the network knows no agent %q that this API key may call: check its name", o.agent, o.agent)
	}
	return fmt.Errorf("call %s: %w", o.agent, err)
}

// unfinished explains why there is no outcome.
func unfinished(ctx context.Context, s *client.Session, o callOptions, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimedOut):
		return &exitError{code: exitTimedOut, err: fmt.Errorf("call %s: task %s did not end within %s, nor within %s after it was asked to", o.agent, s.TaskID(), o.timeout, expiredTimeout)}
	case errors.Is(cause, errLeft):
		return fmt.Errorf("call %s: task %s was left before its end; it may still run", o.agent, s.TaskID())
	}
	return fmt.Errorf("call %s: %w", o.agent, err)
}

// outcome is the exit code of a task's end. The event itself has been printed.
func outcome(e wire.Event) error {
	code := 0
	switch e.State {
	case wire.Completed:
		return nil
	case wire.Canceled:
		code = exitCanceled
	default:
		code = exitFailed
	}
	return &exitError{code: code, err: fmt.Errorf("task %s ended as %s", e.TaskID, e.State), silent: true}
}
