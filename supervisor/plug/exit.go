package plug

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/supervisor/logpump"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Exit says how the process ended; call it only after Done.
func (p *Conn) Exit() *Failure {
	exit := p.process.Load().Exit()
	if exit.OutOfMemory {
		return failure(unit.OutOfMemory, "it was ended by %v", exit)
	}
	if exit.Signal != 0 {
		f := failure(unit.Signal, "it was ended by %v", exit)
		f.Signal = exit.Signal
		return f
	}
	if why := p.ownReason(exit.Code); why != "" {
		return failure(unit.Refused, "%s", why)
	}
	return failure(unit.ExitCode, "it ended with %v", exit)
}

// Failed completes a failure with what the process wrote; call it after Close.
func (p *Conn) Failed(f *Failure) *Failure {
	p.note(f)
	return f
}

func (p *Conn) note(f *Failure) {
	f.Crash = logpump.Crash{Time: time.Now(), Reason: f.Reason.String(), Text: f.Text, Panic: p.pump.Panic(), Lines: p.pump.Tail(logpump.Kept)}
	if process := p.process.Load(); process != nil {
		f.Crash.PID = process.PID()
	}
}

// endedSoon waits for the end of the process: its connection breaks first. If that still works, or works again, the process
// may well live on.
func (p *Conn) endedSoon() bool {
	doubt, notice := time.NewTimer(p.timeouts.ExitDoubt), time.NewTimer(p.timeouts.ExitNotice)
	defer doubt.Stop()
	defer notice.Stop()
	for {
		select {
		case <-p.Done():
			return true
		case <-doubt.C:
			if p.works.Load() {
				return false
			}
		case <-notice.C:
			return false
		}
	}
}

// startFailure prefers the end of the process as the reason when that is what broke the connection.
func (p *Conn) startFailure(err error, otherwise *Failure) *Failure {
	if status.Code(err) == codes.Unavailable && p.endedSoon() {
		f := p.Exit()
		f.Text = fmt.Sprintf("handler %s could not be started because %s", p.config.Handler, f.Text)
		return f
	}
	return otherwise
}
