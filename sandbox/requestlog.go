package sandbox

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/blocksd/blocksd/sandbox/network"
)

// logged writes every request to the log at debug level, without its secrets: bodies and headers are left out, tokens
// and signatures in the query and secret paths are masked.
func (s *Sandbox) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.cfg.Log.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(w, r)
			return
		}
		start := time.Now()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		s.cfg.Log.Debug("request", "method", r.Method, "path", safePath(r.URL), "status", rec.status, "bytes", rec.bytes, "took", time.Since(start))
	})
}

const masked = "***"

func safePath(u *url.URL) string {
	path := u.EscapedPath()
	if strings.HasPrefix(path, network.BlobPath) {
		return network.BlobPath + masked
	}
	if strings.HasPrefix(path, "/publish/") { // a message in the path may hold anything
		if seg := strings.SplitN(path, "/", 8); len(seg) == 8 {
			path = strings.Join(seg[:7], "/") + "/" + masked
		}
	}
	if u.RawQuery == "" {
		return path
	}
	pairs := strings.Split(u.RawQuery, "&")
	for i, pair := range pairs {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case "auth", "signature", "state", "meta":
			pairs[i] = name + "=" + masked
		}
	}
	return path + "?" + strings.Join(pairs, "&")
}

// statusRecorder remembers how a request was answered.
type statusRecorder struct {
	http.ResponseWriter
	status, bytes int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.bytes += n
	return n, err
}

// Unwrap lets a handler flush.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
