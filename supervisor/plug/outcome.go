package plug

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/logpump"
)

// Texts for the consumer.
const (
	publicCrash    = "The handler crashed while it worked on the task."
	publicSilent   = "The handler ended without a result."
	publicError    = "The handler failed."
	publicArtifact = "A result of the handler could not be published."
	publicEnded    = "The task was ended before the handler was done."
	publicTwice    = "The task is running already."
)

// handlerFailure is the failure that a handler has reported.
func handlerFailure(e *handlerv1.Error) *dispatch.TaskFailure {
	public := strings.TrimSpace(foreign(e.GetPublicMessage(), wire.MaxTextBytes))
	if public == "" {
		public = publicError
	}
	return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: public, Private: foreign(e.GetPrivateMessage(), maxPrivate)}
}

// explain puts why a task failed beside what the handler wrote, for whoever looks there. The end of a process is a record
// of its own.
func (p *Conn) explain(task *wire.Task, a *assignment, err error) {
	var f *dispatch.TaskFailure
	if !errors.As(err, &f) || a != nil && a.unwanted() {
		return
	}
	level, why := slog.LevelError, f.Private
	switch {
	case f.Kind == dispatch.CallEnded, f.Kind == dispatch.HandlerCrash && closed(p.Done()):
		return
	case why == "": // the handler has answered, and that is all that there is to say
		level, why = slog.LevelWarn, f.Public
	}
	p.pump.Note(level, "a task failed: "+why, logpump.Pair{Key: "task", Value: task.ID}, logpump.Pair{Key: "agent", Value: task.AgentName})
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// refused is the failure of a handler that breaks the contract, or sends more than there is room for.
func (p *Conn) refused(task *wire.Task, err error) *dispatch.TaskFailure {
	if errors.Is(err, errNoRoom) {
		return &dispatch.TaskFailure{
			Kind: dispatch.HandlerError, Public: publicArtifact,
			Private: fmt.Sprintf("publish an artifact of task %s of handler %s: %v", task.ID, p.config.Handler, err),
		}
	}
	return &dispatch.TaskFailure{
		Kind: dispatch.HandlerError, Public: publicError,
		Private: fmt.Sprintf("handler %s broke the contract in task %s: %v", p.config.Handler, task.ID, err),
	}
}

// Unsent is the failure of a task that the handler never had: the request was not handed to the connection, and a server
// calls its handler only once it has the request. Such a task may always be given to another process.
type Unsent struct{ *dispatch.TaskFailure }

// Unwrap returns the failure to report where the task is not tried again.
func (u *Unsent) Unwrap() error { return u.TaskFailure }

// unsent is the outcome of a StartTask that returned an error: gRPC had no connection to make the call on, the connection
// broke before it took the request (io.EOF), or the request could not be encoded. A connection that breaks after it took
// the request, which may have been read then, is an error of the first Recv instead.
func (p *Conn) unsent(task *wire.Task, err error) error {
	code := status.Code(err)
	switch ended := p.endedSoon(); {
	case ended && (err == io.EOF || code == codes.Unavailable || code == codes.Canceled):
		return &Unsent{p.crash(task, "before it had")}
	case code == codes.Unavailable, err == io.EOF && !p.works.Load():
		return &Unsent{&dispatch.TaskFailure{
			Kind: dispatch.HandlerCrash, Public: publicCrash,
			Private: fmt.Sprintf("the connection to handler %s (pid %d) broke before it had task %s: %v", p.config.Handler, p.PID(), task.ID, err),
		}}
	}
	return p.broken(task, err)
}

// broken finds out why a call ended without a final message.
func (p *Conn) broken(task *wire.Task, err error) *dispatch.TaskFailure {
	name := p.config.Handler
	switch code := status.Code(err); {
	case err == io.EOF:
		return &dispatch.TaskFailure{Kind: dispatch.HandlerSilent, Public: publicSilent, Private: fmt.Sprintf("handler %s ended the call of task %s without a result", name, task.ID)}
	case (code == codes.Unavailable || code == codes.Canceled || code == codes.Internal) && p.endedSoon():
		return p.crash(task, "in")
	case code == codes.Unavailable:
		return &dispatch.TaskFailure{Kind: dispatch.HandlerCrash, Public: publicCrash, Private: foreign(fmt.Sprintf("the connection to handler %s (pid %d) broke in task %s: %v", name, p.PID(), task.ID, err), maxPrivate)}
	case code == codes.Canceled: // by us
		return &dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicEnded, Private: fmt.Sprintf("the call of task %s on handler %s was cut off", task.ID, name)}
	}
	return &dispatch.TaskFailure{Kind: dispatch.HandlerSilent, Public: publicSilent, Private: foreign(fmt.Sprintf("handler %s ended the call of task %s with an error of gRPC: %v", name, task.ID, err), maxPrivate)}
}

// tailLines of a crashed process go into the private text of its tasks.
const tailLines = 20

// crash is the failure of a task whose process has ended, in it or before it had it.
func (p *Conn) crash(task *wire.Task, when string) *dispatch.TaskFailure {
	// The last lines are still in the pipes, as long as nothing else writes to them.
	p.drain()
	private := fmt.Sprintf("handler %s (pid %d) ended %s task %s: %s", p.config.Handler, p.PID(), when, task.ID, p.Exit().Text)
	if tail := p.Tail(tailLines); len(tail) > 0 {
		private += "; its last lines were:\n" + strings.Join(tail, "\n")
	}
	return &dispatch.TaskFailure{Kind: dispatch.HandlerCrash, Public: publicCrash, Private: foreign(private, maxPrivate)}
}
