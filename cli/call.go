package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/wire"
)

const (
	// cancelTimeout bounds the request to cancel. canceledTimeout bounds the wait for the outcome after it: the network
	// itself ends a canceled task after 30 s.
	cancelTimeout   = 10 * time.Second
	canceledTimeout = 45 * time.Second
	// expiredTimeout bounds the wait for the outcome when --timeout has passed: longer than the grace that a daemon gives a
	// handler, but short, because the user has set a limit.
	expiredTimeout = 10 * time.Second
)

type callOptions struct {
	watchOptions
	agent          string
	parts          []partFlag
	sends          []sendFlag
	force          bool
	piped          bool // --pipe was given
	pipe           int
	idempotencyKey string
	traceparent    string
}

func newCall(a *app) *cobra.Command {
	var o callOptions
	cmd := &cobra.Command{
		Use: "call AGENT [TEXT]", Short: "Send an agent a task and follow it to its end", Args: argsOfUse, Example: "  blocksd call AGENT TEXT",
		Long: "Send an agent a task and follow it to its end. TEXT is for the agent's first text input, like --text. Exits with 0 if the\n" +
			"task completed, 4 if it failed, 5 if it was canceled, 6 if it did not end within --timeout. Ctrl-C cancels the task and\n" +
			"waits for its end; a second one stops waiting.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.agent = args[0]
			if len(args) == 2 {
				if err := o.text(args[1]); err != nil {
					return err
				}
			}
			o.limited, o.piped = cmd.Flags().Changed("timeout"), cmd.Flags().Changed("pipe")
			return a.call(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.Var(partValue{&o.parts, partText, false}, "text", "text for the agent's first text input")
	f.Var(partValue{&o.parts, partJSON, false}, "json-part", "JSON document for the agent's first form input")
	f.Var(partValue{&o.parts, partText, true}, "part", "text of one part; may be repeated")
	f.Var(partValue{&o.parts, partFile, true}, "file", "file of one part; may be repeated")
	f.BoolVar(&o.force, "force", false, "send the parts even if they do not fit the agent's card")
	f.Var(sendValue{&o.sends}, "send", "file to write into a stream of the agent, - for standard input; may be repeated")
	f.IntVar(&o.pipe, "pipe", 0, "make it a pipe task of this many minutes")
	o.flags(f, "cancel the task if it has not ended after this time, such as 30s (default: wait indefinitely)")
	f.StringVar(&o.idempotencyKey, "idempotency-key", "", "repeat a call with the same key to get the same task")
	f.StringVar(&o.traceparent, "traceparent", "", "W3C trace context of the caller, for an agent that is traced")
	return cmd
}

var (
	errTimedOut = errors.New("the timeout has passed")
	errDetached = errors.New("detached before the end")
	// errStreamsLeft: the task has ended, and its streams have not.
	errStreamsLeft = errors.New("left before the end of the streams")
)

func (a *app) call(ctx context.Context, o callOptions) error {
	if err := wire.CheckAgentName(o.agent); err != nil {
		return usagef("call: %w", err)
	}
	if err := o.check(); err != nil {
		return usagef("call %s: %w", o.agent, err)
	}
	// attached ends when the user stops waiting, or when the outcome does not come in time. asked ends earlier: at the first
	// interrupt, or when what is printed cannot be written any more. wanted ends then, too, and when --timeout has passed. As
	// long as the task runs, it is canceled then.
	attached, detach := context.WithCancelCause(ctx)
	defer detach(nil)
	asked, stopAsking := a.interruptible(attached)
	defer stopAsking()
	defer surviveBrokenPipes()()
	asked, lose := context.WithCancelCause(asked)
	defer lose(nil)
	wanted := asked
	if o.limited {
		var stopTimer context.CancelFunc
		withTimeout := a.withTimeout
		if withTimeout == nil {
			withTimeout = context.WithTimeoutCause
		}
		wanted, stopTimer = withTimeout(wanted, o.timeout, errTimedOut)
		defer stopTimer()
	}

	var warnings warningPrinter
	c, err := a.newClient(wanted, "call "+o.agent, &warnings)
	if err != nil {
		return o.notSubmitted(wanted, err)
	}
	defer c.Close()
	removeSpool, err := a.takeStdin(wanted, &o)
	defer removeSpool()
	if err != nil {
		return o.notSubmitted(wanted, err)
	}
	out := a.newCallPrinter(o.watchOptions, lose)
	req, err := a.request(wanted, c, o, out)
	if err != nil {
		return o.notSubmitted(wanted, err)
	}
	if err := o.prepare(); err != nil {
		return usagef("call %s: %w", o.agent, err)
	}
	session, err := c.Send(wanted, req)
	out.clear()
	if err != nil {
		return o.notSubmitted(wanted, err)
	}
	defer session.Close()
	out.submitted(session, o.agent)

	warnings.begin(out.remark)
	running, ended := context.WithCancel(attached)
	watched, stopWatching := context.WithCancel(attached)
	var others sync.WaitGroup
	others.Go(func() { a.cancelWhenUnwanted(unwanted{watched, running, asked, wanted, detach}, session, out) })
	sending := a.send(running, session, o.sends, out)
	var canceled error // why, if it was before the task's end
	end, err := o.watch(attached, session, out, func() {
		canceled = context.Cause(wanted)
		ended()
	})
	ended()
	stopWatching()
	others.Wait()
	sendErr := sending.wait(o.agent)
	lost := out.failure()
	switch {
	case lost != nil && lost.unread():
		return &exitError{code: exitCanceled, err: lost, silent: true}
	case lost != nil:
		return fmt.Errorf("call %s: %w, %s", o.agent, lost, afterwards(session, end, canceled))
	case err != nil:
		return unfinished(attached, session, o, err)
	case errors.Is(canceled, errTimedOut):
		how := "so it was canceled"
		if end.State != client.Canceled {
			how = "so it was asked to end, and ended as " + string(end.State)
		}
		return &exitError{code: exitTimedOut, err: fmt.Errorf("call %s: task %s did not end within %s, %s", o.agent, session.TaskID(), o.timeout, how)}
	}
	saving, stopSaving := a.interruptibleAgain(ctx)
	defer stopSaving()
	if err := o.saveArtifacts(saving, session, out); err != nil {
		return err
	}
	if err := outcome(session.TaskID(), end); err != nil {
		return err
	}
	return sendErr
}

// afterwards is what has become of a task whose output could not be written. canceled is why it was asked to end, if it was.
func afterwards(s *client.Session, end client.Event, canceled error) string {
	switch {
	case end.State == "":
		return fmt.Sprintf("and task %s, which was asked to end, may still run", s.TaskID())
	case end.State == client.Canceled && canceled != nil && !errors.Is(canceled, errTimedOut):
		return fmt.Sprintf("so task %s was canceled", s.TaskID())
	}
	return fmt.Sprintf("and task %s has ended as %s: blocksd follow shows its events again", s.TaskID(), end.State)
}

// check returns what is wrong with the options, before the network is asked.
func (o callOptions) check() error {
	if err := o.watchOptions.check(); err != nil {
		return err
	}
	switch {
	case o.piped && (o.pipe < 1 || o.pipe > wire.MaxPipeMinutes):
		return fmt.Errorf("--pipe must be from 1 to %d minutes, not %d", wire.MaxPipeMinutes, o.pipe)
	case !utf8.ValidString(o.idempotencyKey):
		return errors.New("--idempotency-key is not valid UTF-8: choose another key")
	}
	if _, ok := wire.ParseTraceparent(o.traceparent); !ok && o.traceparent != "" {
		return fmt.Errorf("--traceparent must be a W3C trace context such as 00-TRACE-SPAN-01, not %q", o.traceparent)
	}
	return nil
}

// consumer returns how to reach the network, and the key for it: those of the environment, else of the stored login.
func (a *app) consumer() (client.Options, error) {
	where, found, err := a.credentials()
	if errors.Is(err, config.ErrNoKey) {
		err = errNoKey
	}
	return client.Options{
		APIKey: found.Key, CDMURL: where.CDMURL, BackendURL: where.BackendURL, PubNubOrigin: where.PubNubOrigin, Getenv: a.getenv,
	}, err
}

// request builds the task. The agent's card decides which inputs --text and --json-part are for.
func (a *app) request(ctx context.Context, c *client.Client, o callOptions, out *callPrinter) (client.Message, error) {
	r := client.Message{Agent: o.agent, IdempotencyKey: o.idempotencyKey, Traceparent: o.traceparent}
	if o.streams() || len(o.sends) > 0 {
		r.Stream = client.StreamOn
	}
	if o.piped {
		r.Duration = time.Duration(o.pipe) * time.Minute
	}
	registered, known, err := lookUpCard(ctx, c, o.agent)
	if err != nil {
		return r, err
	}
	for _, p := range o.parts {
		id := p.id
		if id == "" {
			id = defaultInput(registered.Inputs, p.kind)
		}
		part := client.Text(id, p.text)
		switch p.kind {
		case partJSON:
			part = client.JSON(id, json.RawMessage(p.text))
		case partFile:
			part = a.filePart(id, p.text, out)
		}
		for _, other := range r.Parts {
			if other.ID == part.ID {
				return r, usagef("call %s: part %s is given twice", o.agent, part.ID)
			}
		}
		r.Parts = append(r.Parts, part)
	}
	if known && !o.force {
		if why := checkCall(registered, o, r.Parts); why != "" {
			return r, usagef("call %s: %s (--force sends it anyway)", o.agent, why)
		}
	}
	return r, nil
}

// unwanted is what ends the wait for a task.
type unwanted struct {
	watched context.Context // ends when all has been printed
	running context.Context // ends before, with the task
	asked   context.Context // ends when the user, or the output, wants no more
	wanted  context.Context // ends then, or when --timeout has passed
	detach  context.CancelCauseFunc
}

// cancelWhenUnwanted cancels the task when it is no longer wanted. It detaches at the next interrupt, or if the outcome
// does not come in time; once the task has ended, and only its streams are left, at the next interrupt. It returns when
// nothing is left to watch.
func (a *app) cancelWhenUnwanted(u unwanted, s *client.Session, out *callPrinter) {
	select {
	case <-u.running.Done():
	case <-u.wanted.Done():
	}
	if u.running.Err() != nil {
		select {
		case <-u.watched.Done():
		case <-u.asked.Done():
			u.detach(errStreamsLeft)
		}
		return
	}
	cause, outcomeTimeout := errDetached, canceledTimeout
	if errors.Is(context.Cause(u.wanted), errTimedOut) {
		cause, outcomeTimeout = errTimedOut, expiredTimeout
	} else {
		again := ""
		if errors.Is(context.Cause(u.wanted), errInterrupted) {
			again = " again"
		}
		out.remark(fmt.Sprintf("canceling task %s; interrupt%s to stop waiting for it", s.TaskID(), again))
	}
	var request sync.WaitGroup
	defer request.Wait()
	request.Go(func() {
		if err := cancelTask(u.running, s, max(cancelTimeout, a.unhurried)); err != nil && u.running.Err() == nil {
			out.remark("blocksd: " + err.Error())
		}
	})
	timer := time.NewTimer(max(outcomeTimeout, a.unhurried))
	defer timer.Stop()
	leave := a.nextInterrupt()
	select {
	case <-u.running.Done():
	case <-leave:
		u.detach(errDetached)
	case <-timer.C:
		u.detach(cause)
	}
	select {
	case <-u.watched.Done():
	case <-leave:
		u.detach(errStreamsLeft) // the first cause counts
	}
}

func cancelTask(ctx context.Context, s *client.Session, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.Cancel(ctx)
}

// notSubmitted is the error of a call whose task the network may not have.
func (o callOptions) notSubmitted(ctx context.Context, err error) error {
	if own, ok := errors.AsType[*exitError](err); ok {
		return own // a whole sentence already
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimedOut):
		return &exitError{code: exitTimedOut, err: fmt.Errorf("call %s: the network did not accept the task within %s", o.agent, o.timeout)}
	case errors.Is(cause, errInterrupted):
		return fmt.Errorf("call %s: interrupted before the network confirmed the task; it may have been sent", o.agent)
	}
	if _, unknown := errors.AsType[*client.NotFoundError](err); unknown {
		return fmt.Errorf("call %s: the network knows no agent %q that this API key may call: blocksd agents lists those that there are", o.agent, o.agent)
	}
	if strings.HasPrefix(err.Error(), "send a task to agent ") {
		return err // it begins with what was attempted
	}
	return fmt.Errorf("call %s: %w", o.agent, err)
}

// unfinished is the error of a call without an outcome.
func unfinished(ctx context.Context, s *client.Session, o callOptions, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimedOut):
		return &exitError{code: exitTimedOut, err: fmt.Errorf("call %s: task %s did not end within %s, nor within %s after it was canceled", o.agent, s.TaskID(), o.timeout, expiredTimeout)}
	case errors.Is(cause, errStreamsLeft):
		return fmt.Errorf("call %s: task %s has ended, but stopped reading its streams before their end", o.agent, s.TaskID())
	case errors.Is(cause, errDetached):
		return fmt.Errorf("call %s: stopped waiting for task %s; it may still run", o.agent, s.TaskID())
	}
	return fmt.Errorf("call %s: %w", o.agent, err)
}
