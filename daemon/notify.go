package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells systemd what happens, as sd_notify(3) does. Without a socket it does nothing.
type notifier struct {
	socket string
	// watchdog is how often systemd wants to hear from us, 0 for not at all.
	watchdog time.Duration
	log      *slog.Logger
}

// The messages of sd_notify(3) that we send.
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
	notifyWatchdog = "WATCHDOG=1"
)

// reloading says that the configuration is being read again; READY=1 ends that.
func (n *notifier) reloading() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		n.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
	}
}

const (
	// notifyTimeout is for a systemd that has much to do: what is not said is never said again, and a daemon that is not READY
	// is ended.
	notifyTimeout = 10 * time.Second
	// While the daemon drains, or waits for room on the disk, it asks every few seconds for extendBy more.
	extendEvery = 5 * time.Second
	extendBy    = 15 * time.Second
)

func newNotifier(getenv func(string) string, pid int, log *slog.Logger) *notifier {
	n := &notifier{socket: getenv("NOTIFY_SOCKET"), log: log}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	// WATCHDOG_PID says for which process the watchdog is; without it, for us.
	if p := getenv("WATCHDOG_PID"); err == nil && usec > 0 && (p == "" || p == strconv.Itoa(pid)) {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n
}

func (n *notifier) send(lines ...string) {
	if n.socket == "" {
		return
	}
	// A leading @ means the abstract namespace, which net takes as it is.
	conn, err := net.DialTimeout("unixgram", n.socket, notifyTimeout)
	if err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(notifyTimeout))
		_, err = conn.Write([]byte(strings.Join(lines, "\n")))
		conn.Close()
	}
	if err != nil {
		n.log.Warn("systemd cannot be told", "state", lines[0], "err", err)
	}
}

// watch sends WATCHDOG=1 at half the interval as long as alive says that the daemon is. It returns when ctx ends.
func (n *notifier) watch(ctx context.Context, alive func(context.Context) error) {
	if n.socket == "" || n.watchdog == 0 {
		return
	}
	tick := time.NewTicker(n.watchdog / 2)
	defer tick.Stop()
	for {
		check, cancel := context.WithTimeout(ctx, n.watchdog/2)
		err := alive(check)
		cancel()
		if err == nil {
			n.send(notifyWatchdog)
		} else if ctx.Err() == nil {
			n.log.Error("the daemon does not answer itself; systemd will restart it if that lasts", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// extension asks systemd for extendBy more.
func extension() string { return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()) }

// extend keeps systemd from killing a daemon that drains. It returns when ctx ends.
func (n *notifier) extend(ctx context.Context) {
	tick := time.NewTicker(extendEvery)
	defer tick.Stop()
	for {
		n.send(extension())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
