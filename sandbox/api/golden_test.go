package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/network"
)

// deployment is a server with three organizations and a clock of its own.
type deployment struct {
	*Server
	t   *testing.T
	now time.Time
	// bearers by name: k1, k2, k3 (API keys), j1, j2, j3 (consumers' JWTs), a1 (the JWT of an instance of echo).
	bearers map[string]string
}

const testCard = `{"identity":{"agentName":"NAME","displayName":"Agent NAME","description":"Says it again.","version":"1.0.0","provider":{"organization":"Test"}},` +
	`"tags":[{"id":"talk","name":"Talk"}],"capabilities":{"taskKinds":["request"]},` +
	`"io":{"inputs":[{"id":"request","description":"what","contentType":"text/plain","required":true,"example":"x"}],"outputs":[{"id":"reply","description":"that","contentType":"text/plain","guaranteed":true}]},` +
	`"runtime":{"handler":"main.go","concurrency":1}}`

func cardOf(name string) string { return strings.ReplaceAll(testCard, "NAME", name) }

func registration(name, more string) string {
	return `{"agentName":"` + name + `","card":` + cardOf(name) + `,"cliVersion":"1.0.20","protocolVersions":["2026-05-01"],"preferredProtocolVersion":"2026-05-01",` + more + `}`
}

func deploy(t *testing.T, change func(*network.Config, *Config)) *deployment {
	t.Helper()
	d := &deployment{t: t, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), bearers: map[string]string{"": "", "bad": "bk_no"}}
	nc := network.Config{
		Now:        func() time.Time { return d.now },
		Playground: wire.Keyset{PublishKey: "pf", SubscribeKey: "sf"}, Network: wire.Keyset{PublishKey: "pp", SubscribeKey: "sp"},
		Organizations: []network.Organization{
			{ID: "o1", Name: "One", UserID: "u1", APIKey: "bk_1"}, {ID: "o2", Name: "Two", UserID: "u2", APIKey: "bk_2"}, {ID: "o3", Name: "Broke", UserID: "u3", APIKey: "bk_3", Broke: true},
		},
	}
	c := Config{Origin: "127.0.0.1:1", Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return d.now }, LoginOrgID: "o1"}
	if change != nil {
		change(&nc, &c)
	}
	n, err := network.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c.Network = n
	if d.Server, err = New(c); err != nil {
		t.Fatal(err)
	}
	for _, i := range []string{"1", "2", "3"} {
		d.bearers["k"+i] = "bk_" + i
		token, err := n.ConsumerToken("bk_" + i)
		if err != nil {
			t.Fatal(err)
		}
		d.bearers["j"+i] = token.AccessToken
	}
	for _, a := range []struct{ name, more string }{
		{"echo", `"listing":"public","billingMode":"free"`},
		{"secret", `"listing":"private","billingMode":"free"`},
		{"paid", `"listing":"public","billingMode":"paid","pricePerTask":"0.050000","tcAcceptedAt":"2026-05-01T00:00:00Z"`},
	} {
		if status, body := d.do("POST", "/api/v1/registry/agents", "k1", registration(a.name, a.more)); status != 200 {
			t.Fatalf("register %s: %d %s", a.name, status, body)
		}
	}
	if status, body := d.do("POST", "/api/v1/auth/agent/connect", "k1", `{"agentName":"echo","instanceId":"AG-echo-1","billingMode":"free"}`); status != 201 {
		t.Fatalf("connect: %d %s", status, body)
	} else {
		d.bearers["a1"] = regexp.MustCompile(`"accessToken":"([^"]+)"`).FindStringSubmatch(body)[1]
	}
	return d
}

func (d *deployment) do(method, path, who, body string) (int, string) {
	status, text, _ := d.full(method, path, who, body, "application/json")
	return status, text
}

func (d *deployment) full(method, path, who, body, contentType string) (int, string, http.Header) {
	d.t.Helper()
	bearer, ok := d.bearers[who]
	if !ok {
		bearer = who
	}
	req := httptest.NewRequest(method, "http://h"+path, strings.NewReader(body))
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if body != "" {
		req.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, req)
	if got := w.Header().Get("Content-Type"); w.Body.Len() > 0 && w.Code != http.StatusFound && got != "application/json" {
		d.t.Errorf("%s %s: content type %q", method, path, got)
	}
	return w.Code, w.Body.String(), w.Header()
}

// refusal is the body of a refused request.
func refusal(code, message string) string {
	return `{"code":"` + code + `","error":"` + message + `","message":"` + message + `"}`
}

const (
	noKey   = `The API key is invalid or was revoked.`
	nobody  = `The request carries no API key and no access token.`
	noToken = `The request carries no access token.`
)

// TestRefusals: each refused request has the documented form, and leaves everything as it was.
func TestRefusals(t *testing.T) {
	d := deploy(t, nil)
	snapshot := func() string {
		var all []string
		for _, path := range []string{
			"/api/v1/registry/agents?include=full", "/api/v1/orgs", "/api/v1/agents/secret/invitations", "/api/v1/agents/secret/grants", "/api/v1/registry/publish-context",
		} {
			_, body := d.do("GET", path, "k1", "")
			all = append(all, body)
		}
		_, tasks := d.do("POST", "/api/v1/rpc", "j1", `{"id":1,"method":"ListTasks"}`)
		return strings.Join(append(all, tasks), "\n")
	}
	before := snapshot()
	agents := "/api/v1/registry/agents"
	tests := []struct {
		name, method, path, who, body string
		status                        int
		want                          string
	}{
		{"unknown path", "GET", "/api/v1/nothing", "", "", 404, `{"code":"NotFound","error":"There is no GET /api/v1/nothing here."}`},
		{"no cli-config", "GET", "/api/v1/cli-config", "", "", 404, `{"code":"NotFound","error":"There is no GET /api/v1/cli-config here."}`},
		{"register, no key", "POST", agents, "", registration("new", `"listing":"private","billingMode":"free"`), 401, refusal("Unauthorized", nobody)},
		{"register, bad key", "POST", agents, "bad", registration("new", `"listing":"private","billingMode":"free"`), 401, refusal("API_KEY_INVALID", noKey)},
		{"register, agent", "POST", agents, "a1", registration("new", `"listing":"private","billingMode":"free"`), 403, refusal("PermissionDenied", "An agent's own credentials cannot register it: use an API key.")},
		{"register, another's", "POST", agents, "k2", registration("echo", `"listing":"public","billingMode":"free"`), 403, refusal("PermissionDenied", "The agent name echo belongs to another organization.")},
		{"register, no card", "POST", agents, "k1", `{"agentName":"new"}`, 400, refusal("InvalidParams", "agentName and card are required.")},
		{"register, other card", "POST", agents, "k1", strings.Replace(registration("new", `"listing":"private","billingMode":"free"`), `"agentName":"new"`, `"agentName":"old"`, 1), 400, refusal("InvalidParams", "The card is the one of the agent new, not of old.")},
		{"register, bad card", "POST", agents, "k1", `{"agentName":"new","card":{},"listing":"private","billingMode":"free"}`, 400, ""},
		{"register, no listing", "POST", agents, "k1", registration("new", `"billingMode":"free"`), 400, refusal("InvalidParams", "listing and billingMode are required.")},
		{"register, bad listing", "POST", agents, "k1", registration("new", `"listing":"x","billingMode":"free"`), 400, refusal("InvalidParams", `listing must be public or private, not \"x\".`)},
		{"register, bad mode", "POST", agents, "k1", registration("new", `"listing":"public","billingMode":"x"`), 400, refusal("InvalidParams", `billingMode must be free or paid, not \"x\".`)},
		{"register, no price", "POST", agents, "k1", registration("new", `"listing":"public","billingMode":"paid","tcAcceptedAt":"2026-05-01T00:00:00Z"`), 400, refusal("InvalidParams", "A paid agent needs a price for a kind of task that it takes.")},
		{"register, price of another kind", "POST", agents, "k1", registration("new", `"listing":"public","billingMode":"paid","pricePerMinute":"0.1","tcAcceptedAt":"2026-05-01T00:00:00Z"`), 400, refusal("InvalidParams", "A paid agent needs a price for a kind of task that it takes.")},
		{"register, no terms", "POST", agents, "k1", registration("new", `"listing":"public","billingMode":"paid","pricePerTask":"0.1"`), 400, refusal("InvalidParams", "tcAcceptedAt must say when the terms for paid agents were accepted.")},
		{"register, dear", "POST", agents, "k1", registration("new", `"listing":"public","billingMode":"paid","pricePerTask":"25.01","tcAcceptedAt":"2026-05-01T00:00:00Z"`), 400, refusal("InvalidParams", "pricePerTask must be between 0.0001 and 25.00, not 25.01.")},
		{"register, no number", "POST", agents, "k1", registration("new", `"listing":"public","billingMode":"paid","pricePerTask":"1e3","tcAcceptedAt":"2026-05-01T00:00:00Z"`), 400, refusal("InvalidParams", `pricePerTask must be a decimal number, not \"1e3\".`)},
		{"register, free with price", "POST", agents, "k1", registration("new", `"listing":"public","billingMode":"free","pricePerTask":"0.1"`), 400, refusal("InvalidParams", "A free agent has no pricePerTask.")},
		{"register, paid to free", "POST", agents, "k1", registration("paid", `"listing":"public","billingMode":"free"`), 409, refusal("BillingModeInvalid", "The paid agent paid cannot become free: delete it first.")},
		{"register, protocol", "POST", agents, "k1", `{"agentName":"new","card":` + cardOf("new") + `,"protocolVersions":["2020-01-01"],"listing":"public","billingMode":"free"}`, 400, refusal("InvalidParams", "protocolVersions must contain 2026-05-01.")},
		{"register, half a body", "POST", agents, "k1", `{"agentName":`, 400, refusal("InvalidParams", "The request body is not what it should be: it ends too early.")},
		{"change, another's", "PATCH", agents + "?agentName=echo", "k2", `{"listing":"private"}`, 403, refusal("PermissionDenied", "The agent echo belongs to another organization.")},
		{"change, unseen", "PATCH", agents + "?agentName=secret", "k2", `{"listing":"public"}`, 404, refusal("AgentNotFound", "There is no agent secret, or it is not visible to you.")},
		{"change, paid to free", "PATCH", agents + "?agentName=paid", "k1", `{"billingMode":"free"}`, 400, refusal("InvalidParams", "A free agent has no pricePerTask.")},
		{"change, no key", "PATCH", agents + "?agentName=echo", "", `{"listing":"private"}`, 401, refusal("Unauthorized", nobody)},
		{"delete, no key", "DELETE", agents + "?agentName=echo", "", "", 401, refusal("Unauthorized", nobody)},
		{"delete, agent", "DELETE", agents + "?agentName=echo", "a1", "", 403, refusal("PermissionDenied", "An agent's own credentials may not delete it: use an API key.")},
		{"delete, another's", "DELETE", agents + "?agentName=echo", "k2", "", 403, refusal("PermissionDenied", "The agent echo belongs to another organization.")},
		{"delete, unseen", "DELETE", agents + "?agentName=secret", "k2", "", 404, refusal("AgentNotFound", "There is no agent secret, or it is not visible to you.")},
		{"delete, unknown", "DELETE", agents + "?agentName=none", "k1", "", 404, refusal("AgentNotFound", "There is no agent none, or it is not visible to you.")},
		{"read, unseen", "GET", agents + "?agentName=secret", "", "", 404, refusal("AgentNotFound", "There is no agent secret, or it is not visible to you.")},
		{"read, unseen by others", "GET", agents + "?agentName=secret", "j2", "", 404, refusal("AgentNotFound", "There is no agent secret, or it is not visible to you.")},
		{"list, limit", "GET", agents + "?limit=0", "", "", 400, refusal("InvalidParams", "limit must be a number from 1 to 100.")},
		{"list, cursor", "GET", agents + "?cursor=x", "", "", 400, refusal("InvalidParams", "The cursor is none of ours.")},
		{"list, status", "GET", agents + "?status=x", "", "", 400, refusal("InvalidParams", `status must be online, offline or all, not \"x\".`)},
		{"list, sort", "GET", agents + "?sort=x", "", "", 400, refusal("InvalidParams", `sort must be relevance or name, not \"x\".`)},
		{"list, scope", "GET", agents + "?scope=x", "", "", 400, refusal("InvalidParams", `scope must be owned or all, not \"x\".`)},
		{"suggest, no key", "GET", "/api/v1/registry/suggest?field=agentname&q=e", "", "", 401, refusal("Unauthorized", nobody)},
		{"suggest, field", "GET", "/api/v1/registry/suggest?field=x&q=e", "k1", "", 400, refusal("InvalidParams", "field must be agentname.")},
		{"context, bad key", "GET", "/api/v1/registry/publish-context", "bad", "", 401, refusal("API_KEY_INVALID", noKey)},
		{"status, none named", "GET", "/api/v1/agent-status", "k1", "", 400, refusal("InvalidParams", "agentNames is required.")},
		{"orgs, no key", "GET", "/api/v1/orgs", "", "", 401, refusal("Unauthorized", nobody)},
		{"rename another's", "PATCH", "/api/v1/orgs/o2", "k1", `{"name":"Mine"}`, 403, refusal("PermissionDenied", "You may not change the organization o2.")},
		{"rename, taken", "PATCH", "/api/v1/orgs/o1", "k1", `{"name":"two"}`, 409, refusal("NameTaken", "The organization name two is already taken.")},
		{"rename, empty", "PATCH", "/api/v1/orgs/o1", "k1", `{"name":" "}`, 400, refusal("InvalidParams", "The name of an organization has 1 to 100 characters.")},
		{"key for another", "POST", "/api/auth/api-key/create", "j1", `{"name":"x","orgId":"o2"}`, 403, refusal("PermissionDenied", "You may not make keys for the organization o2.")},
		{"key, by nobody", "POST", "/api/auth/api-key/create", "", `{"name":"x","orgId":"o1"}`, 401, refusal("Unauthorized", nobody)},
		{"invite, both", "POST", "/api/v1/agents/secret/invitations", "k1", `{"email":"a@b","targetOrgSlug":"two"}`, 400, refusal("InvalidParams", "An invitation needs either an email or a targetOrgSlug.")},
		{"invite, no address", "POST", "/api/v1/agents/secret/invitations", "k1", `{"email":"a"}`, 400, refusal("InvalidParams", `\"a\" is no email address.`)},
		{"invite, unknown organization", "POST", "/api/v1/agents/secret/invitations", "k1", `{"targetOrgSlug":"none"}`, 404, refusal("OrganizationNotFound", "There is no organization none.")},
		{"invite, another's", "POST", "/api/v1/agents/echo/invitations", "k2", `{"targetOrgSlug":"two"}`, 403, refusal("PermissionDenied", "The agent echo belongs to another organization.")},
		{"accept nothing", "POST", "/api/v1/agent-invitations/accept", "k2", `{"token":"x"}`, 404, refusal("InvitationNotFound", "The invitation is unknown, used or expired.")},
		{"revoke no grant", "DELETE", "/api/v1/agents/secret/grants/x", "k1", "", 404, refusal("GrantNotFound", "There is no grant x for the agent secret.")},
		{"connect, no key", "POST", "/api/v1/auth/agent/connect", "", `{"agentName":"echo","instanceId":"i","billingMode":"free"}`, 401, refusal("API_KEY_INVALID", noKey)},
		{"connect, another's", "POST", "/api/v1/auth/agent/connect", "k2", `{"agentName":"echo","instanceId":"i","billingMode":"free"}`, 403, refusal("PermissionDenied", "The agent echo belongs to another organization; only its own API keys may run it.")},
		{"connect, unseen", "POST", "/api/v1/auth/agent/connect", "k2", `{"agentName":"secret","instanceId":"i","billingMode":"free"}`, 404, refusal("AgentNotFound", "There is no agent secret, or it is not visible to you.")},
		{"connect, mode", "POST", "/api/v1/auth/agent/connect", "k1", `{"agentName":"echo","instanceId":"i","billingMode":"paid"}`, 409, `{"code":"BillingModeMismatch","details":{"expected":"free","got":"paid"},"error":"The agent echo is registered as free, not paid.","message":"The agent echo is registered as free, not paid."}`},
		{"refresh, unknown", "POST", "/api/v1/auth/agent/refresh", "k1", `{"refreshToken":"x"}`, 401, refusal("REFRESH_TOKEN_INVALID", "The refresh token is invalid, used or expired.")},
		{"consumer token, bad key", "POST", "/api/v1/auth/agent/consumer-token", "", `{"apiKey":"x"}`, 401, refusal("API_KEY_INVALID", noKey)},
		{"read token, no token", "POST", "/api/v1/auth/task-read-token", "", `{"taskId":"t"}`, 401, refusal("Unauthorized", noToken)},
		{"read token, unknown", "POST", "/api/v1/auth/task-read-token", "j1", `{"taskId":"t"}`, 404, refusal("TaskNotFound", "There is no task t.")},
		{"read token, role", "POST", "/api/v1/auth/task-read-token", "j1", `{"taskId":"t","role":"x"}`, 400, refusal("InvalidParams", `The role must be consumer or provider, not \"x\".`)},
		{"upload, too large", "POST", "/api/v1/files/request-upload", "j1", `{"role":"consumer-input","fileName":"f","fileSize":1073741825,"agentName":"echo","partId":"p"}`, 413, refusal("FileTooLarge", "The file has 1073741825 bytes; at most 1073741824 are allowed.")},
		{"upload, unseen agent", "POST", "/api/v1/files/request-upload", "j2", `{"role":"consumer-input","fileName":"f","fileSize":1,"agentName":"secret","partId":"p"}`, 404, refusal("AgentNotFound", "There is no agent secret, or it is not visible to you.")},
		{"upload, no part", "POST", "/api/v1/files/request-upload", "j1", `{"role":"consumer-input","fileName":"f","fileSize":1,"agentName":"echo"}`, 400, refusal("InvalidParams", "partId is required.")},
		{"upload, role", "POST", "/api/v1/files/request-upload", "j1", `{"role":"x"}`, 400, refusal("InvalidParams", `The role must be consumer-input or provider-output, not \"x\".`)},
		{"confirm, unknown", "POST", "/api/v1/files/confirm-upload", "j1", `{"uploadId":"x"}`, 404, refusal("UploadNotFound", "There is no upload x.")},
		{"blob, unknown", "POST", "/blob/x", "", "x", 400, ""},
		{"rpc, no token", "POST", "/api/v1/rpc", "", `{"id":1,"method":"ListTasks"}`, 401, refusal("Unauthorized", noToken)},
		{"rpc, API key", "POST", "/api/v1/rpc", "k1", `{"id":1,"method":"ListTasks"}`, 401, refusal("Unauthorized", "The access token is invalid.")},
	}
	for _, tt := range tests {
		status, body := d.do(tt.method, tt.path, tt.who, tt.body)
		if status != tt.status || tt.want != "" && body != tt.want {
			t.Errorf("%s: %d %s\nwant %d %s", tt.name, status, body, tt.status, tt.want)
		}
	}
	if after := snapshot(); after != before {
		t.Errorf("refused requests changed something:\n%s\nbefore:\n%s", after, before)
	}
}

func TestRPCRefusals(t *testing.T) {
	d := deploy(t, nil)
	send := func(agent, mode, more string) string {
		return `{"jsonrpc":"2.0","id":"r","method":"SendMessage","params":{"agentName":"` + agent + `","billingMode":"` + mode + `","requestParts":[]` + more + `}}`
	}
	_, own := d.do("POST", "/api/v1/rpc", "j1", send("secret", "free", ""))
	task := regexp.MustCompile(`task_[a-z0-9]+`).FindString(own)
	by := func(method, id string) string {
		return `{"jsonrpc":"2.0","id":"r","method":"` + method + `","params":{"taskId":"` + id + `"}}`
	}
	rpcError := func(number, code, message, details string) string {
		if details != "" {
			details = `"details":` + details + `,`
		}
		return `{"error":{"code":` + number + `,"data":{"code":"` + code + `",` + details + `"message":"` + message + `"},"message":"` + message + `"},"id":"r","jsonrpc":"2.0"}`
	}
	parts := func(list string) string {
		return strings.Replace(send("echo", "free", ""), `"requestParts":[]`, `"requestParts":`+list, 1)
	}
	tests := []struct{ name, who, body, want string }{
		{"mismatch", "j2", send("echo", "paid", ""), rpcError("-32000", "BillingModeMismatch", "The agent echo is free, but the request says paid.", `{"expected":"free","got":"paid"}`)},
		{"unknown owner", "j1", send("secret", "free", `,"ownerId":5`), rpcError("-32602", "InvalidParams", "The params are not what they should be: ownerId must be a text, not a number.", "")},
		{"a list for params", "j1", `{"id":"r","method":"SendMessage","params":[]}`, rpcError("-32602", "InvalidParams", "The params are not what they should be: it must be an object, not a list.", "")},
		{"stream", "j1", send("echo", "free", `,"extensions":{"blocks":{"stream":"yes"}}`), rpcError("-32602", "InvalidParams", "The params are not what they should be: extensions.blocks.stream must be true or false, not a text.", "")},
		{"limit", "j1", `{"id":"r","method":"ListTasks","params":{"limit":1.5}}`, rpcError("-32602", "InvalidParams", "The params are not what they should be: limit must be a whole number, not 1.5.", "")},
		{"no parts", "j1", strings.Replace(send("echo", "free", ""), `"requestParts":[]`, `"x":1`, 1), rpcError("-32602", "InvalidParams", "requestParts must be a list of parts.", "")},
		{"null parts", "j1", parts(`null`), rpcError("-32602", "InvalidParams", "requestParts must be a list of parts.", "")},
		{"a text for parts", "j1", parts(`"x"`), rpcError("-32602", "InvalidParams", "requestParts must be a list of parts.", "")},
		{"a number for a part", "j1", parts(`[{"partId":"a","text":"x"},1]`), rpcError("-32602", "InvalidParams", "requestParts[1] must be an object.", "")},
		{"null for a part", "j1", parts(`[null]`), rpcError("-32602", "InvalidParams", "requestParts[0] must be an object.", "")},
		{"a number for a text", "j1", parts(`[{"partId":"a","text":5}]`), rpcError("-32602", "InvalidParams", "requestParts[0] is not what it should be: text must be a text, not a number.", "")},
		{"a list for a part's name", "j1", parts(`[{"partId":[],"text":"x"}]`), rpcError("-32602", "InvalidParams", "requestParts[0] is not what it should be: partId must be a text, not a list.", "")},
		{"a text for a file", "j1", parts(`[{"partId":"a","artifactRef":"x"}]`), rpcError("-32602", "InvalidParams", "requestParts[0].artifactRef is not the reference of a file.", "")},
		{"a text for a size", "j1", parts(`[{"partId":"a","artifactRef":{"kind":"inline","size":"x"}}]`), rpcError("-32602", "InvalidParams", "requestParts[0].artifactRef is not the reference of a file.", "")},
		{"pipe for a request-only agent", "j1", send("echo", "free", `,"extensions":{"blocks":{"taskKind":"pipe","duration":1}}`), rpcError("-32000", "TaskKindUnsupported", "The agent echo takes no pipe tasks, only request tasks.", "")},
		{"balance", "j3", send("paid", "paid", ""), rpcError("-32000", "InsufficientBalance", "The balance of the organization does not cover the price of the task.", `{"available":"0.00","required":"0.050000"}`)},
		{"private", "j2", send("secret", "free", ""), rpcError("-32000", "AgentNotFound", "There is no agent secret, or it is not visible to you.", "")},
		{"owner", "j1", send("echo", "free", `,"ownerId":"u2"`), rpcError("-32000", "PermissionDenied", "The ownerId is not the one of the authenticated user.", "")},
		{"no agent", "j1", send("", "free", ""), rpcError("-32602", "InvalidParams", "agentName is required.", "")},
		{"no mode", "j1", send("echo", "", ""), rpcError("-32602", "InvalidParams", "billingMode must be free or paid.", "")},
		{"kind", "j1", send("echo", "free", `,"extensions":{"blocks":{"taskKind":"x"}}`), rpcError("-32602", "InvalidParams", "taskKind must be request or pipe.", "")},
		{"duration", "j1", send("echo", "free", `,"extensions":{"blocks":{"duration":1}}`), rpcError("-32602", "InvalidParams", "duration is for pipe tasks only.", "")},
		{"upload session", "j1", send("echo", "free", `,"uploadSessionId":"x"`), rpcError("-32000", "UploadNotFound", "There is no upload session x for the agent echo.", "")},
		{"stranger reads", "j2", by("GetTask", task), rpcError("-32000", "PermissionDenied", "You may not access the task "+task+".", "")},
		{"stranger cancels", "j2", by("CancelTask", task), rpcError("-32000", "PermissionDenied", "You may not access the task "+task+".", "")},
		{"stranger terminates", "j2", by("TerminateTask", task), rpcError("-32000", "PermissionDenied", "You may not access the task "+task+".", "")},
		{"nobody reads", "", by("GetTask", task), rpcError("-32000", "PermissionDenied", "You may not access the task "+task+".", "")},
		{"unknown", "j1", by("GetTask", "t"), rpcError("-32000", "TaskNotFound", "There is no task t.", "")},
		{"unknown retry", "j1", by("RetryTask", "t"), rpcError("-32000", "TaskNotFound", "There is no task t.", "")},
		{"no task", "j1", by("PauseTask", ""), rpcError("-32602", "InvalidParams", "taskId is required.", "")},
		{"method", "j1", by("Nothing", "t"), rpcError("-32601", "MethodNotFound", "There is no method Nothing.", "")},
		{"params", "j1", `{"id":"r","method":"GetTask","params":{"taskId":5}}`, rpcError("-32602", "InvalidParams", "The params are not what they should be: taskId must be a text, not a number.", "")},
		{"cursor", "j1", `{"id":"r","method":"ListTasks","params":{"cursor":"x"}}`, rpcError("-32602", "InvalidParams", "The cursor is none of ours.", "")},
	}
	for _, tt := range tests {
		if status, body := d.do("POST", "/api/v1/rpc", tt.who, tt.body); status != 200 || body != tt.want {
			t.Errorf("%s: %d %s\nwant %s", tt.name, status, body, tt.want)
		}
	}
	if status, body := d.do("POST", "/api/v1/auth/anon-task-read-token", "", `{"taskId":"`+task+`","fingerprint":"f"}`); status != 403 || body != refusal("PermissionDenied", "You may not read the task "+task+".") {
		t.Errorf("anonymous read of a private agent's task: %d %s", status, body)
	}
	// The owner's own organization need not name the agent's billing mode.
	for agent, mode := range map[string]string{"paid": "free", "secret": "paid"} {
		if status, body := d.do("POST", "/api/v1/rpc", "j1", send(agent, mode, "")); status != 200 || strings.Contains(body, "error") {
			t.Errorf("%s agent called as %s by its owner: %d %s", agent, mode, status, body)
		}
	}
	_, public := d.do("POST", "/api/v1/rpc", "j1", send("echo", "free", ""))
	task = regexp.MustCompile(`task_[a-z0-9]+`).FindString(public)
	if status, body := d.do("POST", "/api/v1/auth/anon-task-read-token", "", `{"taskId":"`+task+`","fingerprint":"f"}`); status != 200 || !strings.Contains(body, `"channel":"u.o1.`+task+`","ttlMinutes":60`) {
		t.Errorf("anonymous read of a public agent's task: %d %s", status, body)
	}
	if status, _ := d.do("POST", "/api/v1/rpc", "", by("CancelTask", task)); status != 401 {
		t.Errorf("anonymous cancel: %d", status)
	}
}

// TestToolSequence is what the official tool asks for, in its order.
func TestToolSequence(t *testing.T) {
	d := deploy(t, nil)
	// exact compares with times, ids and tokens taken out.
	volatile := regexp.MustCompile(`(key|inv|grant|it|bk|oc|ort)_[A-Za-z0-9]+`)
	exact := func(method, path, who, body string, status int, want string) string {
		t.Helper()
		got, text := d.do(method, path, who, body)
		if plain := volatile.ReplaceAllString(text, "${1}_X"); got != status || plain != want {
			t.Errorf("%s %s: %d %s\nwant %d %s", method, path, got, plain, status, want)
		}
		return text
	}
	agent := func(name, listing, mode, more string) string {
		return `{"agentName":"` + name + `","name":"Agent ` + name + `","displayName":"Agent ` + name + `","description":"Says it again.","tags":["talk"],"listing":"` + listing + `","billingMode":"` + mode + `",` + more +
			`"orgId":"o1","orgName":"One","onlineCount":0,"registeredAt":"2026-05-01T12:00:00Z","cardSummary":{"description":"Says it again.","displayName":"Agent ` + name + `","tags":["talk"],"taskKinds":["request"]}`
	}

	exact("GET", "/api/v1/registry/publish-context", "k1", "", 200, `{"agentCount":3,"orgId":"o1","orgName":"One"}`)
	exact("PATCH", "/api/v1/orgs/o1", "k1", `{"name":"First"}`, 200, `{"id":"o1","name":"First","slug":"one"}`)
	exact("PATCH", "/api/v1/orgs/o1", "k1", `{"name":"One"}`, 200, `{"id":"o1","name":"One","slug":"one"}`)
	exact("GET", "/api/v1/pricing/limits", "", "", 200, `{"maxFreeMinutesAllowed":30,"maxFreeTasksAllowed":100,"maxPricePerMinute":"1.00","maxPricePerTask":"25.00","minPricePerMinute":"0.01","minPricePerTask":"0.0001"}`)
	exact("POST", "/api/v1/registry/agents", "k1", registration("fresh", `"listing":"private","billingMode":"free"`), 200,
		`{"agent":`+agent("fresh", "private", "free", "")+`,"card":`+cardOf("fresh")+`},"agentName":"fresh","agentUrl":"http://127.0.0.1:1/agents/fresh","status":"registered"}`)
	exact("POST", "/api/v1/registry/agents", "k1", registration("fresh", `"listing":"public","billingMode":"paid","pricePerTask":"0.050000","freeTasksPerConsumer":2,"tcAcceptedAt":"2026-05-01T11:59:00Z"`), 200,
		`{"agent":`+agent("fresh", "public", "paid", `"pricePerTask":"0.050000","freeTasksPerConsumer":2,`)+`,"card":`+cardOf("fresh")+`},"agentName":"fresh","agentUrl":"http://127.0.0.1:1/agents/fresh","status":"registered"}`)
	exact("PATCH", "/api/v1/registry/agents?agentName=fresh", "k1", `{"listing":"private"}`, 200, `{"agent":`+agent("fresh", "private", "paid", `"pricePerTask":"0.050000","freeTasksPerConsumer":2,`)+`,"card":`+cardOf("fresh")+`}}`)
	exact("DELETE", "/api/v1/registry/agents?agentName=fresh", "k1", "", 200, `{"agentName":"fresh","status":"deleted","ts":1777636800000}`)
	exact("DELETE", "/api/v1/registry/agents?agentName=fresh", "k1", `{"reason":"old"}`, 404, refusal("AgentNotFound", "There is no agent fresh, or it is not visible to you."))

	exact("GET", "/api/v1/registry/suggest?field=agentname&limit=10&listing=public%2Cprivate&q=e", "k1", "", 200, `{"agents":[{"agentName":"echo","displayName":"Agent echo"}]}`)
	exact("GET", "/api/v1/agent-status?agentNames=echo,none", "", "", 200, `{"agents":[{"agentName":"echo","onlineCount":0,"totalActiveTasks":0,"instances":[]}]}`)
	exact("GET", "/api/v1/registry/agents?agentName=echo", "k2", "", 200, `{"agent":`+agent("echo", "public", "free", "")+`,"card":`+cardOf("echo")+`}}`)

	// Invitations.
	exact("GET", "/api/v1/registry/agents?agentName=secret", "k2", "", 404, refusal("AgentNotFound", "There is no agent secret, or it is not visible to you."))
	sent := exact("POST", "/api/v1/agents/secret/invitations", "k1", `{"targetOrgSlug":"two"}`, 200, `{"inviteUrl":"http://127.0.0.1:1/invite/it_X","notified":0}`)
	exact("POST", "/api/v1/agents/secret/invitations", "k1", `{"email":"new@example.com"}`, 200, `{"inviteUrl":"http://127.0.0.1:1/invite/it_X","notified":0}`)
	token := regexp.MustCompile(`it_[A-Z0-9]+`).FindString(sent)
	exact("GET", "/invite/"+token, "", "", 200, `{"accept":"blocks invite accept it_X"}`)
	listed, _ := d.do("GET", "/api/v1/agents/secret/invitations", "k1", "")
	if listed != 200 {
		t.Errorf("invitations: %d", listed)
	}
	exact("POST", "/api/v1/agent-invitations/accept", "k3", `{"token":"`+token+`"}`, 403, refusal("PermissionDenied", "The invitation is for somebody else."))
	exact("POST", "/api/v1/agent-invitations/accept", "k2", `{"token":"`+token+`"}`, 200, `{"agentName":"secret"}`)
	exact("POST", "/api/v1/agent-invitations/accept", "k2", `{"token":"`+token+`"}`, 404, refusal("InvitationNotFound", "The invitation is unknown, used or expired."))
	exact("GET", "/api/v1/agents/secret/invitations", "k1", "", 200, `{"invitations":[{"id":"inv_X","email":"new@example.com","scope":"user","expiresAt":"2026-05-08T12:00:00.000Z","createdAt":"2026-05-01T12:00:00.000Z"}]}`)
	if status, body := d.do("POST", "/api/v1/rpc", "j2", `{"id":1,"method":"SendMessage","params":{"agentName":"secret","billingMode":"free","requestParts":[]}}`); status != 200 || strings.Contains(body, "error") {
		t.Errorf("the invited cannot use the agent: %s", body)
	}
	grants := exact("GET", "/api/v1/agents/secret/grants", "k1", "", 200, `{"grants":[{"id":"grant_X","scope":"org","createdAt":"2026-05-01T12:00:00.000Z","granteeOrg":{"id":"o2","name":"Two","slug":"two"}}]}`)
	id := regexp.MustCompile(`grant_[a-z0-9]+`).FindString(grants)
	exact("DELETE", "/api/v1/agents/secret/grants/"+id, "k1", "", 200, `{"id":"grant_X","status":"revoked"}`)
	exact("GET", "/api/v1/registry/agents?agentName=secret", "k2", "", 404, refusal("AgentNotFound", "There is no agent secret, or it is not visible to you."))
}

func TestBrowserLogin(t *testing.T) {
	d := deploy(t, nil)
	// The verifier and challenge of RFC 7636, appendix B.
	const verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	ask := func(change map[string]string) (int, url.Values) {
		t.Helper()
		v := url.Values{
			"client_id": {clientID}, "code_challenge": {challenge}, "code_challenge_method": {"S256"}, "redirect_uri": {"http://127.0.0.1:8787/callback"},
			"response_type": {"code"}, "scope": {"openid profile email offline_access"}, "state": {"s t"}, "resource": {"http://127.0.0.1:1"},
		}
		for k, x := range change {
			v.Set(k, x)
		}
		status, _, h := d.full("GET", "/api/auth/oauth2/authorize?"+v.Encode(), "", "", "")
		back, err := url.Parse(h.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		if status == 302 && (back.Host != "127.0.0.1:8787" || back.Path != "/callback") {
			t.Errorf("sent to %s", back)
		}
		return status, back.Query()
	}
	redeem := func(code, verifier string) (int, string) {
		v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "client_id": {clientID}, "redirect_uri": {"http://127.0.0.1:8787/callback"}}
		status, body, _ := d.full("POST", "/api/auth/oauth2/token", "", v.Encode(), "application/x-www-form-urlencoded")
		return status, body
	}
	status, back := ask(nil)
	if status != 302 || back.Get("state") != "s t" || back.Get("code") == "" {
		t.Fatalf("%d %v", status, back)
	}
	status, body := redeem(back.Get("code"), verifier)
	session := regexp.MustCompile(`"access_token":"([^"]+)"`).FindStringSubmatch(body)
	if status != 200 || session == nil || !strings.Contains(body, `"token_type":"Bearer"`) {
		t.Fatalf("%d %s", status, body)
	}
	const spent = `{"error":"invalid_grant","error_description":"The code is invalid, used or expired, or belongs to another login."}`
	if status, body := redeem(back.Get("code"), verifier); status != 400 || body != spent {
		t.Errorf("used code: %d %s", status, body)
	}
	_, back = ask(nil)
	if status, body := redeem(back.Get("code"), "wrong"); status != 400 || body != spent {
		t.Errorf("wrong verifier: %d %s", status, body)
	}
	_, back = ask(nil)
	d.now = d.now.Add(6 * time.Minute)
	if status, body := redeem(back.Get("code"), verifier); status != 400 || body != spent {
		t.Errorf("late: %d %s", status, body)
	}
	d.now = d.now.Add(-6 * time.Minute)
	for name, change := range map[string]map[string]string{
		"elsewhere": {"redirect_uri": "http://example.com/"}, "with a user": {"redirect_uri": "http://127.0.0.1@example.com/"},
		"scheme": {"redirect_uri": "https://127.0.0.1/"}, "client": {"client_id": "x"},
	} {
		if status, back := ask(change); status != 400 || len(back) > 0 {
			t.Errorf("%s: %d %v", name, status, back)
		}
	}
	if status, back := ask(map[string]string{"code_challenge_method": "plain"}); status != 302 || back.Get("error") != "invalid_request" || back.Has("code") {
		t.Errorf("plain challenge: %d %v", status, back)
	}

	// A page of another origin gets nowhere: neither may it read an answer nor may it ask by script.
	for _, path := range []string{"/api/auth/oauth2/authorize?redirect_uri=http://127.0.0.1:1/", "/api/auth/oauth2/token", "/api/auth/api-key/create"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			req := httptest.NewRequest(method, "http://h"+path, nil)
			req.Header.Set("Origin", "http://example.com")
			w := httptest.NewRecorder()
			d.ServeHTTP(w, req)
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("%s %s allows the origin %s", method, path, got)
			}
			req.Header.Set("Sec-Fetch-Mode", "cors")
			w = httptest.NewRecorder()
			if d.ServeHTTP(w, req); w.Code != 403 {
				t.Errorf("%s %s by script: %d", method, path, w.Code)
			}
		}
	}

	status, body = d.do("GET", "/api/v1/orgs", session[1], "")
	if status != 200 || body != `{"billingEnabled":true,"orgs":[{"id":"o1","name":"One","slug":"one"}]}` {
		t.Errorf("orgs: %d %s", status, body)
	}
	status, body = d.do("POST", "/api/auth/api-key/create", session[1], `{"name":"cli-host","orgId":"o1"}`)
	key := regexp.MustCompile(`^{"apiKey":"(bk_[A-Z0-9]+)","expiresAt":"2026-07-30T12:00:00Z","keyId":"key_[a-z0-9]+"}$`).FindStringSubmatch(body)
	if status != 200 || key == nil {
		t.Fatalf("key: %d %s", status, body)
	}
	if status, body := d.do("GET", "/api/v1/registry/publish-context", key[1], ""); status != 200 {
		t.Errorf("new key: %d %s", status, body)
	}
	d.now = d.now.Add(91 * 24 * time.Hour)
	if status, body := d.do("GET", "/api/v1/registry/publish-context", key[1], ""); status != 401 || body != refusal("API_KEY_INVALID", noKey) {
		t.Errorf("expired key: %d %s", status, body)
	}
}

func TestKeysAndTokensEnd(t *testing.T) {
	d := deploy(t, nil)
	k, err := d.network.CreateKey(nil, "o1", "ci", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, body := d.do("POST", "/api/v1/auth/agent/consumer-token", "", `{"apiKey":"`+k.Secret+`"}`)
	refresh := regexp.MustCompile(`rt_[A-Z0-9]+`).FindString(body)
	if _, err := d.network.RevokeKey(k.ID); err != nil {
		t.Fatal(err)
	}
	if status, body := d.do("POST", "/api/v1/auth/agent/refresh", k.Secret, `{"refreshToken":"`+refresh+`"}`); status != 401 || body != refusal("API_KEY_INVALID", noKey) {
		t.Errorf("refresh with a revoked key: %d %s", status, body)
	}
	list := `{"id":1,"method":"ListTasks"}`
	if status, _ := d.do("POST", "/api/v1/rpc", "j1", list); status != 200 {
		t.Errorf("token: %d", status)
	}
	d.network.ExpireTokens(false)
	for _, who := range []string{"j1", "a1"} {
		if status, body := d.do("POST", "/api/v1/rpc", who, list); status != 401 || body != refusal("Unauthorized", "The access token is expired.") {
			t.Errorf("%s after all have expired: %d %s", who, status, body)
		}
	}
	_, body = d.do("POST", "/api/v1/auth/agent/consumer-token", "", `{"apiKey":"bk_1"}`)
	refresh = regexp.MustCompile(`rt_[A-Z0-9]+`).FindString(body)
	d.network.ExpireTokens(true)
	if status, body := d.do("POST", "/api/v1/auth/agent/refresh", "k1", `{"refreshToken":"`+refresh+`"}`); status != 401 || body != refusal("REFRESH_TOKEN_INVALID", "The refresh token is invalid, used or expired.") {
		t.Errorf("forgotten refresh token: %d %s", status, body)
	}
}

func TestSearch(t *testing.T) {
	d := deploy(t, nil)
	for _, name := range []string{"echo_two", "my_echo", "other"} {
		if status, body := d.do("POST", "/api/v1/registry/agents", "k2", registration(name, `"listing":"public","billingMode":"free"`)); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	names := func(query, who string) string {
		t.Helper()
		status, body := d.do("GET", "/api/v1/registry/agents?"+query, who, "")
		if status != 200 {
			t.Fatalf("%s: %d %s", query, status, body)
		}
		var out []string
		for _, m := range regexp.MustCompile(`{"agentName":"(\w+)"`).FindAllStringSubmatch(body, -1) {
			out = append(out, m[1])
		}
		return strings.Join(out, " ")
	}
	for _, tt := range []struct{ query, who, want string }{
		{"", "", "echo echo_two my_echo other paid"},
		{"", "k1", "echo echo_two my_echo other paid secret"},
		{"listing=private", "k1", "secret"},
		{"listing=private", "", ""},
		{"listing=public,private&scope=owned", "k1", "echo paid secret"},
		{"scope=owned", "k2", "echo_two my_echo other"},
		{"q=echo", "", "echo echo_two my_echo"},
		{"q=echo&sort=name&limit=2", "", "echo echo_two"},
		{"q=echo+-two", "", "echo my_echo"},
		{"q=tag:talk+other", "", "other"},
		{"q=tag:none", "", ""},
		{"tag=talk&q=%22says+it%22", "", "echo echo_two my_echo other paid"},
		{"status=online", "k1", ""},
		{"status=offline&q=paid", "", "paid"},
	} {
		if got := names(tt.query, tt.who); got != tt.want {
			t.Errorf("%q by %q: %q, want %q", tt.query, tt.who, got, tt.want)
		}
	}
	if _, body := d.do("GET", "/api/v1/registry/agents?q=%22open&includeTotals=false", "", ""); body != `{"agents":[],"next":null,"searchParseError":"A quotation mark is not closed."}` {
		t.Error(body)
	}
	// Page by page, in the order of relevance.
	var all []string
	next := ""
	for range 10 {
		_, body := d.do("GET", "/api/v1/registry/agents?q=echo&limit=1&cursor="+url.QueryEscape(next), "", "")
		all = append(all, regexp.MustCompile(`{"agentName":"(\w+)"`).FindStringSubmatch(body)[1])
		m := regexp.MustCompile(`"next":"([^"]+)","totalCount":3`).FindStringSubmatch(body)
		if m == nil {
			break
		}
		next = m[1]
	}
	if got := strings.Join(all, " "); got != "echo echo_two my_echo" {
		t.Errorf("pages: %s", got)
	}
}

func TestEnterprise(t *testing.T) {
	d := deploy(t, nil)
	e := deploy(t, nil)
	e.Server.cfg.Enterprise = true
	if status, body := e.do("GET", "/api/v1/cli-config", "", ""); status != 200 || body != `{"dashboardBaseUrl":"http://127.0.0.1:1","enterprise":true,"oauthClientId":"blocksd-sandbox","productName":"Blocks sandbox"}` {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := e.do("GET", "/api/v1/registry/agents?agentName=echo", "", ""); status != 401 {
		t.Errorf("anonymous look-up: %d", status)
	}
	if status, _ := d.do("GET", "/api/v1/registry/agents?agentName=echo", "", ""); status != 200 {
		t.Errorf("anonymous look-up in an ordinary deployment: %d", status)
	}
}
