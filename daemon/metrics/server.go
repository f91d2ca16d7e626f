package metrics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTimeout = 5 * time.Second
	answerTimeout = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = time.Second
	// maxHeaderBytes: a scrape has a few hundred.
	maxHeaderBytes = 16 << 10
	// socketMode lets the daemon's group scrape.
	socketMode = 0o660
)

// Listen opens the listener for an address such as 127.0.0.1:9464 or unix:PATH. A socket that a dead daemon left is
// replaced; only one daemon can be here, because it holds its state directory.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("open the listener for metrics on %s: %w: choose another telemetry.listen", address, err)
		}
		return l, nil
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if conn, err := net.DialTimeout("unix", path, stopTimeout); err == nil {
			conn.Close()
			return nil, fmt.Errorf("open the listener for metrics on %s: somebody answers on it: choose another telemetry.listen", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("open the listener for metrics on %s: remove what a dead daemon left: %w", path, err)
		}
	}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the listener for metrics on %s: %w: choose another telemetry.listen", path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("open the listener for metrics on %s: %w", path, err), l.Close())
	}
	return l, nil
}

// Serve answers on l until ctx ends, and closes it.
func (m *Metrics) Serve(ctx context.Context, l net.Listener) error {
	server := http.Server{
		Handler: m.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: answerTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(m.cfg.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if server.Shutdown(stopping) != nil {
		_ = server.Close()
	}
	<-served
	return nil
}

// Handler answers /metrics, /healthz and /readyz.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(m.cfg.Log.Handler(), slog.LevelWarn), EnableOpenMetrics: true,
		ErrorHandling: promhttp.ContinueOnError, // one bad series must not hide the others
	}))
	// Healthy is a daemon that can say how it is; restarting it would not bring the network back.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		m.cfg.Snapshot()
		answer(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if now := m.cfg.Snapshot(); !now.Ready {
			answer(w, http.StatusServiceUnavailable, append([]string{"not ready"}, now.Reasons...)...)
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	return localOnly(mux)
}

func answer(w http.ResponseWriter, status int, lines ...string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, strings.Join(lines, "\n"))
}

// localOnly refuses requests for another host than an address or localhost: a page in a browser on this machine could
// otherwise read what it gets by a name that leads here.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		_, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); err != nil && host != "localhost" && (!ok || addr.Network() != "unix") {
			answer(w, http.StatusForbidden, "ask by an address or localhost")
			return
		}
		next.ServeHTTP(w, r)
	})
}
