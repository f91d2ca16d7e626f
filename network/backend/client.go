// Package backend is the client of the Blocks HTTP API: deployment document, registry, connect and refresh, JSON-RPC,
// tokens, files and write affinity. It holds credentials and keeps them out of every error text and log line.
package backend

import (
	"log/slog"
	"net/http"
	"time"
)

// Config of a Client. Only BaseURL is required.
type Config struct {
	// BaseURL is the root of the API; trailing slashes do not matter.
	BaseURL string
	// HTTP is nil for a client of our own with bounded connections. A given one must not have a Timeout: deadlines are
	// set per request.
	HTTP *http.Client
	// Now is nil for time.Now.
	Now func() time.Time
	// Log is nil to discard.
	Log *slog.Logger
}
