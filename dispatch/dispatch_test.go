package dispatch_test

import (
	"errors"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/dispatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNames(t *testing.T) {
	for r, want := range map[dispatch.CancelReason]string{
		dispatch.CancelUnspecified: "UNSPECIFIED", dispatch.CancelUser: "USER", dispatch.CancelExpired: "EXPIRED", dispatch.CancelTerminated: "TERMINATED",
		dispatch.CancelDeadline: "DEADLINE", dispatch.CancelDrain: "DRAIN", dispatch.CancelShutdown: "SHUTDOWN", -1: "UNSPECIFIED", 99: "UNSPECIFIED",
	} {
		if r.String() != want {
			t.Errorf("reason %d is %s, want %s", int(r), r, want)
		}
	}
	for a, want := range map[dispatch.Availability]string{
		dispatch.Available: "available", dispatch.Recovering: "recovering", dispatch.Unavailable: "unavailable", 0: "unknown",
	} {
		if a.String() != want {
			t.Errorf("availability %d is %s, want %s", int(a), a, want)
		}
	}
}

// TestTaskFailure: the log gets what is private, where there is such a thing; the consumer's sentence stays apart.
func TestTaskFailure(t *testing.T) {
	f := &dispatch.TaskFailure{Kind: dispatch.HandlerCrash, Public: "The handler stopped."}
	if f.Error() != f.Public {
		t.Errorf("without a private text it reads %q", f)
	}
	f.Private = "signal: killed"
	var found *dispatch.TaskFailure
	if f.Error() != f.Private || !errors.As(fmt.Errorf("wrapped: %w", f), &found) || found.Public != "The handler stopped." {
		t.Errorf("got %q, %+v", f, found)
	}
}
