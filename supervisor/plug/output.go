package plug

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/logpump"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// output is what the process writes.
type output struct {
	pump   *logpump.Pump
	synced []*logpump.Writer // what go-plugin's Go server sends
	pumps  sync.WaitGroup
	pumped chan struct{} // closed when both pipes have ended
}

// looks are what a wait for the output of an ended process consists of. On a machine that stood still, the time of one of them
// is over before anything was read; of the others it is not.
const looks = 20

// soon waits for c, with all looks together no longer than limit. ok is false where c is closed or nothing came.
func soon[T any](c <-chan T, limit time.Duration) (v T, ok bool) {
	for range looks {
		select {
		case v, ok = <-c:
			return v, ok
		case <-time.After(limit / looks):
		}
	}
	return v, false
}

// drain waits until all that an ended process has written is read. Something else may hold the pipes, so it does not wait forever.
func (p *Conn) drain() { soon(p.pumped, p.timeouts.ExitDrain) }

// launch starts the process, begins to read its output, and waits for its first line.
func (p *Conn) launch(ctx context.Context, env []string) (*launch.Process, string, error) {
	c := p.config
	process, err := c.Spawner.Spawn(ctx, launch.Spec{
		Path: c.Path, Program: c.Program, Argv0: c.Argv0, Args: c.Args, Dir: c.Dir, Env: env, Plan: p.plan, Needed: c.Needed, Private: p.dir, Mark: p.mark,
	})
	if err != nil {
		var errno syscall.Errno
		// Only what the kernel said of the execution itself.
		if errors.As(err, &errno) && err.Error() == "start "+c.Path+": "+errno.Error() {
			if why := p.attempt().WhyNotStarted(errno); why != "" {
				return nil, "", failure(unit.Spawn, "handler %s could not be started because %s", c.Handler, why)
			}
		}
		return nil, "", failure(unit.Spawn, "handler %s could not be started: %v", c.Handler, err)
	}
	p.process.Store(process)
	p.pump.SetProcess(process.PID(), c.outputLog().With("handler", c.Handler, "pid", process.PID()))
	first := make(chan string, 1)
	p.pumps.Add(2)
	go func() { defer p.pumps.Done(); p.pump.Copy(splitFirstLine(process.Stdout, first)) }()
	go func() { defer p.pumps.Done(); p.pump.Copy(process.Stderr) }()
	go func() { p.pumps.Wait(); close(p.pumped) }() // Close waits for it

	select {
	case line, ok := <-first:
		if ok {
			return p.firstLine(process, line)
		}
		// Standard output ended: the process is about to, or has.
	case <-process.Done():
		// What it printed before may still be in the pipe.
		if line, ok := soon(first, p.timeouts.ExitDrain); ok {
			return p.firstLine(process, line)
		}
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errHandshakeTimeout) {
			return process, "", failure(unit.StartTimeout, "handler %s could not be started because it printed no handshake within %v (is standard output flushed, and does the line end?)", c.Handler, p.timeouts.Handshake)
		}
		return process, "", p.givenUp(ctx)
	}
	select {
	case <-process.Done():
	case <-ctx.Done(): // it lives on
		if errors.Is(context.Cause(ctx), errHandshakeTimeout) {
			return process, "", failure(unit.Handshake, "handler %s could not be started because it closed its standard output without a handshake", c.Handler)
		}
		return process, "", p.givenUp(ctx)
	}
	exit := p.Exit()
	if exit.Reason == unit.Refused {
		return process, "", failure(exit.Reason, "handler %s is not started because %s", c.Handler, exit.Text)
	}
	if exit.Reason == unit.ExitCode {
		if why := p.attempt().WhyEnded(process.Exit().Code); why != "" {
			return process, "", failure(exit.Reason, "handler %s could not be started because %s", c.Handler, why)
		}
	}
	return process, "", failure(exit.Reason, "handler %s could not be started because %s before its handshake", c.Handler, exit.Text)
}

// givenUp is the failure of a start that whoever asked for it has ended.
func (p *Conn) givenUp(ctx context.Context) *Failure {
	return failure(unit.Requested, "the start of handler %s was given up: %v", p.config.Handler, context.Cause(ctx))
}

// exitUnusable is the exit code (EX_CONFIG) of a handler that cannot work before something on this machine is changed, and
// whose last line says what.
const exitUnusable = 78

// ownReason is what a handler itself says of why it cannot work, "" for nothing.
func (p *Conn) ownReason(code int) string {
	if code != exitUnusable {
		return ""
	}
	p.drain()
	tail := p.pump.Tail(1)
	if len(tail) == 0 {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSpace(tail[0]), ".")
}

// attempt is what the catalog has to know to explain a start that has failed.
func (p *Conn) attempt() catalog.Start {
	l := p.config.Limits
	return catalog.Start{
		Path: p.config.Path, Dir: p.config.Dir, Guarded: len(l.ReadPaths)+len(l.WritePaths) > 0, Interpreter: p.config.Interpreter,
	}
}

// firstLine takes the line only if it is a handshake.
func (p *Conn) firstLine(process *launch.Process, line string) (*launch.Process, string, error) {
	_, err := parseHandshake(line)
	if err == nil {
		err = checkCertificate(line, p.config.MTLS)
	}
	if err != nil {
		return process, "", failure(unit.Handshake, "handler %s could not be started because %v", p.config.Handler, err)
	}
	return process, line, nil
}

// sync returns a writer for what go-plugin's Go server sends of the handler's os.Stdout and os.Stderr.
func (p *Conn) sync() *logpump.Writer {
	w := p.pump.Writer()
	p.synced = append(p.synced, w)
	return w
}
