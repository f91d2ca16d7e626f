package daemon

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
)

// roomCheck is how often a daemon that waits for room on the disk tries to start again; each roomReminder-th time it says so.
const (
	roomCheck    = 2 * time.Second
	roomReminder = 30
)

// Open is New, but waits while the disk of the state directory is full, until there is room or ctx ends: that needs no
// other start, and systemd would give up. Meanwhile systemd is asked for more time.
func Open(ctx context.Context, cfg Config) (*Daemon, error) {
	if cfg.Log == nil { // New says so
		return New(cfg)
	}
	return awaitRoom(ctx, cfg, func() (*Daemon, error) { return New(cfg) })
}

func awaitRoom(ctx context.Context, cfg Config, open func() (*Daemon, error)) (*Daemon, error) {
	for n := 0; ; n++ {
		d, err := open()
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
			if n > 0 && err == nil {
				cfg.Log.Info("there is room on the disk again; the daemon starts", "state_dir", cfg.Settings.StateDir)
			}
			return d, err
		}
		if n%roomReminder == 0 {
			cfg.Log.Error("the disk is full, so the daemon waits for room before it starts: free some space", "state_dir", cfg.Settings.StateDir, "err", err)
		}
		newNotifier(cfg.getenv(), 0, cfg.Log).send(extension(), fmt.Sprintf("STATUS=waiting for room on the disk of %s", cfg.Settings.StateDir))
		if retry.Pause(ctx, roomCheck) != nil {
			return nil, err
		}
	}
}
