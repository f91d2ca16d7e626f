package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/internal/testutil"
)

// A full disk at the start is waited for, and said once a minute.
func TestWaitsForRoom(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		synctest.Test(t, func(t *testing.T) {
			var log testutil.Buffer
			cfg := Config{Settings: config.Config{StateDir: "/state"}, Log: slog.New(slog.NewTextHandler(&log, nil))}
			began, tries := time.Now(), 0
			d, err := awaitRoom(t.Context(), cfg, func() (*Daemon, error) {
				if tries++; tries <= 31 {
					return nil, errors.Join(fmt.Errorf("open journal /state/journal.db: %w: free space", full), nil)
				}
				return &Daemon{}, nil
			})
			if d == nil || err != nil || time.Since(began) != 31*roomCheck {
				t.Errorf("daemon %v, %v after %v", d, err, time.Since(began))
			}
			if s := log.String(); strings.Count(s, "the disk is full") != 2 || strings.Count(s, "there is room") != 1 || !strings.Contains(s, "/state/journal.db") {
				t.Errorf("log %s", s)
			}
		})
	}
}

func TestWaitForRoomEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if d, err := awaitRoom(ctx, cfg, func() (*Daemon, error) { return nil, syscall.ENOSPC }); d != nil || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("daemon %v, %v", d, err)
		}
		if _, err := awaitRoom(ctx, cfg, func() (*Daemon, error) { return nil, syscall.EACCES }); !errors.Is(err, syscall.EACCES) {
			t.Errorf("%v", err)
		}
	})
}
