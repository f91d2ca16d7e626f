package stream

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Limits of a stream. Zero means the default.
type Limits struct {
	// MaxMessage is how many bytes a message may have, encoded. Default 16,384; more than 512, at most 32,000.
	MaxMessage int
	// MaxPiece is how many bytes each piece of a message may have that goes out in pieces, once a backlog of large items
	// has lasted for a while. The default is 30,000, or MaxMessage where that is set: fewer messages are easier on readers.
	MaxPiece int
	// MaxItem is how many bytes an item may have. The default is 16 MiB without 64 KiB, so that a handler gets each item in a
	// message of 16 MiB.
	MaxItem int
	// Buffer is how many bytes may wait to be sent before writes block. One item that is larger is taken when nothing
	// else waits. Default 1 MiB.
	Buffer int
	// Window is how many messages may be under way at once while there is a backlog. Default 4.
	Window int
	// Pieces is how many pieces of messages may be under way at once while there is a backlog. Default 48.
	Pieces int
	// Rate is how many messages a second the channel gets at most, in the long run, and Burst how many at once. Rate 0
	// means as many as readers can follow, about 2,000, and fewer when the network says that it gets too much.
	Rate  float64
	Burst int
	// MaxLatency is how long an item waits for others to share a message with. The default 0 sends at once what is
	// written while nothing is under way; what is written meanwhile shares the next message.
	MaxLatency time.Duration
	// Bundle is how many bytes, encoded, are sent without waiting for MaxLatency. The default is a full message.
	Bundle int
	// RetryStart and RetryCap bound the pauses between attempts to publish. Defaults 50 ms and 5 s.
	RetryStart, RetryCap time.Duration
}

func (l Limits) withDefaults() (Limits, error) {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if l.MaxMessage != 0 {
		set(&l.MaxPiece, l.MaxMessage)
	}
	set(&l.MaxPiece, 30_000)
	set(&l.MaxMessage, wire.DefaultStreamMessageBytes)
	set(&l.MaxItem, 16<<20-64<<10)
	set(&l.Buffer, 1<<20)
	set(&l.Window, 4)
	set(&l.Pieces, 48)
	set(&l.Burst, 10)
	set(&l.Bundle, l.MaxMessage)
	if l.RetryStart <= 0 {
		l.RetryStart = 50 * time.Millisecond
	}
	if l.RetryCap <= 0 {
		l.RetryCap = 5 * time.Second
	}
	switch {
	case l.MaxMessage <= minMessage || l.MaxMessage > maxMessage:
		return l, fmt.Errorf("the largest message of a stream must have more than %d and at most %d bytes, not %d", minMessage, maxMessage, l.MaxMessage)
	case l.MaxPiece < l.MaxMessage || l.MaxPiece > maxMessage:
		return l, fmt.Errorf("the largest piece of a message must have from %d to %d bytes, not %d", l.MaxMessage, maxMessage, l.MaxPiece)
	case l.MaxItem < 1 || l.Buffer < 1 || l.Window < 1 || l.Pieces < 1 || l.Burst < 1 || l.Bundle < 1 || l.Rate < 0 || l.MaxLatency < 0:
		return l, fmt.Errorf("the limits of a stream must not be negative: %+v", l)
	}
	return l, nil
}

const (
	minMessage = wire.MultipartReserve
	// maxMessage leaves room for the name of the channel, which the network counts too.
	maxMessage = 32000
)

// LimitsFrom reads the limits that the environment sets, as the Blocks SDKs do: STREAM_MAX_MESSAGE_SIZE and
// STREAM_BUNDLE_SIZE in bytes, STREAM_MAX_LATENCY_MS. A variable that cannot be used is left out and is one of problems.
func LimitsFrom(getenv func(string) string) (l Limits, problems []error) {
	number := func(name string, least, most int) int {
		text := strings.TrimSpace(getenv(name))
		if text == "" {
			return 0
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			problems = append(problems, fmt.Errorf("%s must be a whole number from %d to %d, not %q", name, least, most, text))
			return 0
		}
		return n
	}
	l.MaxMessage = number("STREAM_MAX_MESSAGE_SIZE", minMessage+1, maxMessage)
	l.Bundle = number("STREAM_BUNDLE_SIZE", 1, 1<<30)
	l.MaxLatency = time.Duration(number("STREAM_MAX_LATENCY_MS", 0, 60_000)) * time.Millisecond
	return l, problems
}
