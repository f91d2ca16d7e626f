package sandbox

import (
	"log/slog"
	"net/http"
	"time"
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
		s.cfg.Log.Debug("request", "method", r.Method, "path", s.routes.Safe(r.URL), "status", rec.status, "bytes", rec.bytes, "took", time.Since(start))
	})
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
