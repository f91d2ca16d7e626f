package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/client"
)

func newFollow(a *app) *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use: "follow TASK", Short: "Follow a task that was sent before, from its beginning to its end", Args: argsOfUse,
		Long: "Follow a task that was sent before, by call or by any other client of the same account: its events from the beginning, then\n" +
			"live. Exits like call: with 0 if the task completed, 4 if it failed, 5 if it was canceled, 6 if it did not end within\n" +
			"--timeout. It never cancels the task: Ctrl-C only stops following.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.limited = cmd.Flags().Changed("timeout")
			return a.follow(cmd.Context(), args[0], o)
		},
	}
	o.flags(cmd.Flags(), "stop following after this time, such as 30s (default: follow to the end)")
	return cmd
}

func (a *app) follow(ctx context.Context, task string, o watchOptions) error {
	if err := o.check(); err != nil {
		return usagef("follow %s: %w", task, err)
	}
	ctx, leave := a.interruptible(ctx)
	defer leave()
	if o.limited {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, o.timeout, errTimedOut)
		defer stop()
	}
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	var warnings warningPrinter
	c, err := a.newClient(ctx, "follow "+task, &warnings)
	if err != nil {
		return notFollowed(ctx, task, o, err)
	}
	defer c.Close()
	if err := o.prepare(); err != nil {
		return usagef("follow %s: %w", task, err)
	}
	s, err := c.Connect(ctx, task)
	if err != nil {
		return notFollowed(ctx, task, o, err)
	}
	defer s.Close()
	out := a.newCallPrinter(o, lose)
	warnings.begin(out.remark)
	end, err := o.watch(ctx, s, out, func() {})
	switch {
	case err != nil && end.State != "":
		return leftStreams(ctx, task, o, end)
	case err != nil:
		return notFollowed(ctx, task, o, err)
	}
	if err := o.saveArtifacts(ctx, s, out); err != nil {
		return err
	}
	return outcome(task, end)
}

// leftStreams is the error of a task that has ended, not all of which was printed.
func leftStreams(ctx context.Context, task string, o watchOptions, end client.Event) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimedOut):
		return &exitError{code: exitTimedOut, err: fmt.Errorf("follow %s: its streams did not end within %s; the task has ended as %s", task, o.timeout, end.State)}
	case errors.Is(cause, errInterrupted):
		return fmt.Errorf("follow %s: stopped reading its streams before their end; the task has ended as %s", task, end.State)
	}
	return fmt.Errorf("follow %s: %w; the task has ended as %s", task, context.Cause(ctx), end.State)
}

// notFollowed is the error of a task whose end was not seen.
func notFollowed(ctx context.Context, task string, o watchOptions, err error) error {
	if own, ok := errors.AsType[*exitError](err); ok {
		return own // a whole sentence already
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimedOut):
		return &exitError{code: exitTimedOut, err: fmt.Errorf("follow %s: the task did not end within %s; it goes on", task, o.timeout)}
	case errors.Is(cause, errInterrupted):
		return fmt.Errorf("follow %s: stopped following before the task's end; it goes on", task)
	}
	if lost, ok := errors.AsType[*lostOutput](context.Cause(ctx)); ok {
		return fmt.Errorf("follow %s: %w; the task goes on", task, lost)
	}
	if _, unknown := errors.AsType[*client.NotFoundError](err); unknown {
		return fmt.Errorf("follow %s: the network knows no such task that this API key may see: see blocksd calls", task)
	}
	return fmt.Errorf("follow %s: %w", task, err)
}

// newClient makes the client of a command. what begins the sentence of an error.
func (a *app) newClient(ctx context.Context, what string, warnings *warningPrinter) (*client.Client, error) {
	options, err := a.consumer()
	if err != nil {
		return nil, usagef("%s: %w", what, err)
	}
	options.Log = slog.New(warnings)
	return client.New(ctx, options)
}
