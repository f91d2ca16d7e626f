package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/sandbox/blocks"
	routing "github.com/blocksd/blocksd/sandbox/route"
)

// Routes reads the paths of this side.
var Routes = routing.Table{Endpoints: routing.Names(table, func(r route) string { return r.endpoint }), Look: look}

// route is one row of what the server answers: a pattern of http.ServeMux, and the name that faults have for it, "" for
// none. The wildcard of a secret row must not be logged: it is all that one needs to use the path.
type route struct {
	pattern, endpoint string
	serve             func(s *Server, w http.ResponseWriter, r *http.Request)
	secret            bool
}

var table = []route{
	{pattern: "GET /api/v1/cdm", endpoint: "cdm", serve: (*Server).getCDM},
	{pattern: "GET /api/v1/cli-config", serve: (*Server).cliConfig},
	{pattern: "GET /api/v1/pricing/limits", serve: (*Server).pricingLimits},
	{pattern: "GET /api/v1/registry/agents", endpoint: "registry", serve: (*Server).agents},
	{pattern: "POST /api/v1/registry/agents", endpoint: "registry", serve: (*Server).publish},
	{pattern: "PATCH /api/v1/registry/agents", endpoint: "registry", serve: (*Server).change},
	{pattern: "PUT /api/v1/registry/agents", endpoint: "registry", serve: (*Server).change},
	{pattern: "DELETE /api/v1/registry/agents", endpoint: "registry", serve: (*Server).remove},
	{pattern: "GET /api/v1/registry/suggest", serve: (*Server).suggest},
	{pattern: "GET /api/v1/registry/publish-context", serve: (*Server).publishContext},
	{pattern: "GET /api/v1/agent-status", serve: (*Server).agentStatus},
	{pattern: "GET /api/v1/orgs", serve: (*Server).orgs},
	{pattern: "PATCH /api/v1/orgs/{id}", serve: (*Server).renameOrg},
	{pattern: "GET /api/auth/oauth2/authorize", serve: (*Server).authorize},
	{pattern: "POST /api/auth/oauth2/token", serve: (*Server).oauthToken},
	{pattern: "POST /api/auth/api-key/create", serve: (*Server).createKey},
	{pattern: "POST /api/v1/agents/{name}/invitations", serve: (*Server).invite},
	{pattern: "GET /api/v1/agents/{name}/invitations", serve: (*Server).invitations},
	{pattern: "POST /api/v1/agent-invitations/accept", serve: (*Server).acceptInvitation},
	{pattern: "GET /api/v1/agents/{name}/grants", serve: (*Server).grants},
	{pattern: "DELETE /api/v1/agents/{name}/grants/{id}", serve: (*Server).revokeGrant},
	{pattern: "GET /invite/{token}", serve: (*Server).invitePage, secret: true},
	{pattern: "GET /agents/{name}", serve: (*Server).agentPage},
	{pattern: "POST /api/v1/auth/agent/connect", endpoint: "connect", serve: (*Server).connect},
	{pattern: "POST /api/v1/auth/agent/refresh", endpoint: "refresh", serve: (*Server).refresh},
	{pattern: "POST /api/v1/auth/agent/consumer-token", endpoint: "consumer-token", serve: (*Server).consumerToken},
	{pattern: "POST /api/v1/auth/task-read-token", endpoint: "task-read-token", serve: (*Server).taskReadToken},
	{pattern: "POST /api/v1/auth/anon-task-read-token", endpoint: "anon-task-read-token", serve: (*Server).anonReadToken},
	{pattern: "POST /api/v1/rpc", endpoint: "rpc", serve: (*Server).rpc},
	{pattern: "POST /api/v1/files/request-upload", endpoint: "request-upload", serve: (*Server).requestUpload},
	{pattern: "POST /api/v1/files/confirm-upload", endpoint: "confirm-upload", serve: (*Server).confirmUpload},
	{pattern: "POST " + blocks.BlobPath + "{id}", endpoint: "blob", serve: (*Server).receiveBlob, secret: true},
	{pattern: "GET " + blocks.BlobPath + "{id}", endpoint: "blob", serve: (*Server).sendBlob, secret: true},
}

// path is the pattern without the method.
func (r route) path() string { return r.pattern[strings.Index(r.pattern, "/"):] }

// firstSegments are how the paths of this side begin.
var firstSegments = func() map[string]bool {
	out := map[string]bool{}
	for _, r := range table {
		out[firstSegment(r.path())] = true
	}
	return out
}()

// Serves reports whether a path is one of this side.
func Serves(path string) bool { return firstSegments[firstSegment(path)] }

// firstSegment includes the slash behind it, if there is one.
func firstSegment(path string) string {
	if i := strings.Index(strings.TrimPrefix(path, "/"), "/"); i >= 0 {
		return path[:i+2]
	}
	return path
}

// look says what a path is about, whatever the method.
func look(u *url.URL) routing.Route {
	out := routing.Route{Side: routing.Blocks}
	i := slices.IndexFunc(table, func(r route) bool { return r.path() == u.Path })
	if i < 0 {
		i = slices.IndexFunc(table, func(r route) bool {
			prefix, _, wildcard := strings.Cut(r.path(), "{")
			return wildcard && strings.HasPrefix(u.Path, prefix)
		})
	}
	if i >= 0 {
		out.Endpoint = table[i].endpoint
	}
	if i >= 0 && table[i].secret {
		prefix, _, _ := strings.Cut(table[i].path(), "{")
		out.Secret = strings.Count(prefix, "/") - 1
	}
	return out
}
