// Package deployment says where a Blocks Network is: it reads the deployment document (the CDM of the Blocks SDKs) and
// applies what the program or its environment says instead. Daemon, client and commands resolve it here and nowhere else.
package deployment

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
)

// Config says where to look. What it names wins over the document; the zero value is the public network.
type Config struct {
	// CDMURL is where the document is; empty for that of the public network.
	CDMURL string
	// BackendURL replaces the API address of the document.
	BackendURL string
	// PubNubOrigin is host:port of a PubNub that speaks plain HTTP, as a sandbox does. It replaces that of the document,
	// which only a sandbox's document names.
	PubNubOrigin string
}

// FromEnvironment reads the variables that clients of the network honor.
func FromEnvironment(getenv func(string) string) Config {
	return Config{
		CDMURL: getenv("BLOCKS_CDM_URL"), BackendURL: getenv("BLOCKS_BACKEND_URL"), PubNubOrigin: getenv("BLOCKSD_PUBNUB_ORIGIN"),
	}
}

// URL returns the address of the document.
func (c Config) URL() string { return cmp.Or(c.CDMURL, backend.DefaultCDMURL) }

// Deployment is a network that can be connected to. Two are equal when every address and key is.
type Deployment struct {
	CDM backend.CDM
	// BackendURL is the address of the Blocks API.
	BackendURL string
	// Origin is host or host:port of PubNub; Secure asks for TLS.
	Origin string
	Secure bool
}

// Resolve applies c to a document.
func (c Config) Resolve(document backend.CDM) Deployment {
	d := Deployment{CDM: document, BackendURL: cmp.Or(c.BackendURL, document.BaseURL), Origin: link.DefaultOrigin, Secure: true}
	if origin := cmp.Or(c.PubNubOrigin, document.PubNubOrigin); origin != "" {
		d.Origin, d.Secure = origin, false
	}
	return d
}

// Fetch reads the document once, as backend.FetchCDM does, and resolves it. A nil hc is a client of its own.
func (c Config) Fetch(ctx context.Context, hc *http.Client) (Deployment, error) {
	document, err := backend.FetchCDM(ctx, hc, c.URL())
	if err != nil {
		return Deployment{}, err
	}
	return c.Resolve(document), nil
}

// NewBackend returns a client of the deployment's API. A nil hc is a client of its own.
func (d Deployment) NewBackend(hc *http.Client, log *slog.Logger) (*backend.Client, error) {
	return backend.New(backend.Config{BaseURL: d.BackendURL, HTTP: hc, Log: log})
}
