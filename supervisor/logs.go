package supervisor

import (
	"context"
	"fmt"

	"github.com/blocksd/blocksd/supervisor/logpump"
)

// Logs hands out what a handler has written lately, the last n records, oldest first; of all handlers for "". With follow
// it goes on with what they write next, until ctx ends.
func (f *Fleet) Logs(ctx context.Context, handler string, n int, follow bool, yield func(logpump.Record) error) error {
	if handler != "" && f.get(handler) == nil {
		return fmt.Errorf("%w called %q", ErrNoHandler, handler)
	}
	if follow {
		return f.buffer.Follow(ctx, handler, n, yield)
	}
	for _, r := range f.buffer.Tail(handler, n) {
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

// Crash is what is known of the last process of a handler that ended without being asked to.
func (f *Fleet) Crash(handler string) (logpump.Crash, bool) { return f.buffer.Crash(handler) }
