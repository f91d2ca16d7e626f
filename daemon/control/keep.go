package control

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc"
)

// keepInterval is how often the server looks whether its socket is still there.
const keepInterval = 2 * time.Second

// keep makes the socket again when somebody has removed it, with its directory if need be, until ctx ends. Calls that are
// under way go on. While that is not possible it goes on trying, and calls OnLost once.
func (s *Server) keep(ctx context.Context, g *grpc.Server) {
	listener, ok := s.cfg.Listener.(*net.UnixListener)
	if !ok {
		return
	}
	path := listener.Addr().String()
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	lost := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		again, err := Listen(ctx, path)
		switch {
		case err == nil:
			listener.SetUnlinkOnClose(false) // its name is that of the next one now
			listener = again.(*net.UnixListener)
			s.cfg.Log.Warn("the control socket had been removed and was made again", "socket", path)
			lost = false
			s.serving.Go(func() { _ = g.Serve(s.fair(again)) }) // ends with g
		case !lost && ctx.Err() == nil:
			lost = true
			s.cfg.Log.Error("the control socket was removed and cannot be made again", "socket", path, "err", err)
			if s.cfg.OnLost != nil {
				s.cfg.OnLost()
			}
		}
	}
}
