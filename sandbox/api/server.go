// Package api is the HTTP face of the sandbox's Blocks backend: discovery, registry, credentials, the RPC gateway and
// files, over package blocks.
package api

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

// maxBody bounds a JSON request body.
const maxBody = 4 << 20

// clientID is what clients that log in by browser call themselves.
const clientID = "blocksd-sandbox"

// loginPath is where browser logins are.
const loginPath = "/api/auth/"

// affinityHeader tells clients until when, in Unix seconds, their reads must see what they have written.
const (
	affinityHeader = "X-Write-Affinity"
	affinity       = 5 * time.Second
)

// Config of a Server.
type Config struct {
	Blocks *blocks.Network
	// Origin is host:port under which the server is reached.
	Origin           string
	Playground, Paid wire.Keyset
	// Enterprise makes the deployment one of that kind: no anonymous registry, no marketplace.
	Enterprise bool
	// LoginOrgID is the organization whose user a browser login is for.
	LoginOrgID string
	Log        *slog.Logger
	Now        func() time.Time
}

// Server answers the requests of the Blocks SDKs.
type Server struct {
	blocks *blocks.Network
	log    *slog.Logger
	now    func() time.Time
	cdm    []byte
	origin string
	cfg    Config
	mux    *http.ServeMux
}

// New returns a server.
func New(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cdm, err := json.Marshal(map[string]any{
		"playground": cfg.Playground, "network": cfg.Paid,
		"api":     map[string]string{"baseUrl": "http://" + cfg.Origin, "clientId": clientID},
		"sandbox": map[string]string{"pubnubOrigin": cfg.Origin},
	})
	if err != nil {
		return nil, err
	}
	s := &Server{blocks: cfg.Blocks, log: cfg.Log, now: cfg.Now, cdm: cdm, origin: cfg.Origin, cfg: cfg, mux: http.NewServeMux()}
	for _, r := range table {
		s.mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) { r.serve(s, w, req) })
	}
	s.mux.HandleFunc("/", notFound)
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if strings.HasPrefix(r.URL.Path, loginPath) {
		// Refuse scripts: a page of another origin could log in without the user, and get a key to the agents of this
		// machine.
		if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
			s.refuse(w, r, &blocks.Error{Status: http.StatusForbidden, Code: blocks.CodeDenied, Message: "A page cannot log in by itself."})
			return
		}
		s.mux.ServeHTTP(w, r)
		return
	}
	h.Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Blocks-Protocol-Version, X-Write-Affinity, X-Active-Org")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.Method != http.MethodGet {
		// Says that later reads have to see this write. Here they always do, but clients expect the header and echo it.
		h.Set(affinityHeader, strconv.FormatInt(s.now().Add(affinity).Unix(), 10))
	}
	s.mux.ServeHTTP(w, r)
}

func notFound(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusNotFound, map[string]string{"error": "There is no " + r.Method + " " + r.URL.Path + " here.", "code": "NotFound"})
}

func (s *Server) getCDM(w http.ResponseWriter, _ *http.Request) { send(w, http.StatusOK, s.cdm) }

// answer sends v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"The answer cannot be encoded.","code":"Internal"}`)
	}
	send(w, status, body)
}

func send(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body))) // or an early flush would make it chunked
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have disconnected
}

// refuse sends an error in the form of the REST endpoints. Both members "error" and "message" are read by clients.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *blocks.Error
	if !errors.As(err, &e) {
		s.log.Error("request failed", "path", r.URL.Path, "err", err)
		e = &blocks.Error{Status: http.StatusInternalServerError, Code: "Internal", Message: "The sandbox failed to handle the request."}
	}
	w.Header().Del(affinityHeader)
	body := map[string]any{"error": e.Message, "message": e.Message, "code": e.Code}
	if e.Details != nil {
		body["details"] = e.Details
	}
	answer(w, e.Status, body)
}

// read decodes a JSON body into v. An empty body is an empty object.
func read(r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return blocks.InvalidParams("The request body cannot be read: %s.", blocks.DescribeJSONError(err))
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return blocks.InvalidParams("The request body is invalid: %s.", blocks.DescribeJSONError(err))
	}
	return nil
}

// bearer returns the credential of a request, "" if there is none.
func bearer(r *http.Request) string {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(credential)
}

// byToken returns who makes a request that needs a JWT.
func (s *Server) byToken(r *http.Request) (*blocks.Principal, error) {
	credential := bearer(r)
	if credential == "" {
		return nil, blocks.Unauthorized("The request carries no access token.")
	}
	return s.blocks.ByToken(credential)
}

// identified returns who makes a request that needs an API key or a JWT.
func (s *Server) identified(r *http.Request) (*blocks.Principal, error) {
	credential := bearer(r)
	if credential == "" {
		return nil, blocks.Unauthorized("The request carries no API key and no access token.")
	}
	if strings.Count(credential, ".") == 2 { // the shape of a JWT
		return s.blocks.ByToken(credential)
	}
	return s.blocks.ByKey(credential)
}

// byAny returns who makes a request for which credentials are optional; invalid ones count as none.
func (s *Server) byAny(r *http.Request) *blocks.Principal {
	credential := bearer(r)
	if credential == "" {
		return nil
	}
	if p, err := s.blocks.ByKey(credential); err == nil {
		return p
	}
	if p, err := s.blocks.ByToken(credential); err == nil {
		return p
	}
	return nil
}
