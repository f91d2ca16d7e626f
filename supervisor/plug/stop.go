package plug

import (
	"context"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// shutdownMethod asks go-plugin's server to end. It stops the server at once, running calls included, so it comes after
// draining.
const shutdownMethod = "/plugin.GRPCController/Shutdown"

// Kill ends the process and its group at once. Done follows.
func (p *Conn) Kill() {
	if p.process.Load() != nil {
		_ = p.process.Load().Signal(syscall.SIGKILL)
	}
}

// KillAndWait ends the process and its group at once. False means that even the kernel did not end it within Timeouts.Kill.
func (p *Conn) KillAndWait() bool {
	if p.process.Load() == nil {
		return true
	}
	p.Kill()
	return p.doneWithin(p.timeouts.Kill)
}

// doneWithin waits for the end of the process.
func (p *Conn) doneWithin(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.Done():
		return true
	case <-timer.C:
		return false
	}
}

// Stop ends the process: it is asked, then sent SIGTERM, then killed, each with a deadline. It returns when the process
// has ended; false means that even the kernel did not end it in time.
func (p *Conn) Stop() bool {
	steps := []struct {
		act  func()
		wait time.Duration
	}{
		{p.askToStop, p.timeouts.Stop},
		{func() { _ = p.process.Load().Signal(syscall.SIGTERM) }, p.timeouts.Terminate},
		{p.Kill, p.timeouts.Kill},
	}
	for _, s := range steps {
		s.act()
		if p.doneWithin(s.wait) {
			return true
		}
	}
	return false
}

// askToStop sends SIGTERM right away to a handler that does not know Shutdown. One whose connection breaks has heard it: a
// server that stops at once need not answer.
func (p *Conn) askToStop() {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeouts.Stop)
	defer cancel()
	if err := p.conn.Invoke(ctx, shutdownMethod, &emptypb.Empty{}, &emptypb.Empty{}); err != nil && status.Code(err) != codes.Unavailable {
		_ = p.process.Load().Signal(syscall.SIGTERM)
	}
}

// Close frees what belongs to a process that has ended, and waits for all that was going on for it. Call it once, after
// Done.
func (p *Conn) Close() {
	if p.process.Load() != nil {
		<-p.process.Load().Done() // it was killed, if it did not end by itself
		p.drain()
		p.process.Load().Close()
		<-p.pumped
	}
	if p.host != nil {
		p.host.stop()
	}
	p.conns.close() // first: something that outlived the process may hold them, and go-plugin would wait for its answer
	if p.plugin != nil && !p.abandoned {
		p.plugin.Kill() // book-keeping: there is nothing left to kill
	}
	p.calls.close()
	if p.turns != nil {
		p.turns.close()
	}
	for _, w := range p.synced {
		_ = w.Close()
	}
	p.pump.Close()
	p.removeDir()
}

// removeDir deletes the private directory with the sockets in it.
func (p *Conn) removeDir() {
	if p.dir != "" {
		p.config.Dirs.Remove(p.plan, p.dir)
	}
}
