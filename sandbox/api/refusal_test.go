package api

import (
	"regexp"
	"strings"
	"testing"
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
		{"register, other card", "POST", agents, "k1", strings.Replace(registration("new", `"listing":"private","billingMode":"free"`), `"agentName":"new"`, `"agentName":"old"`, 1), 400, refusal("InvalidParams", "The card is for the agent new, not for old.")},
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
		{"register, half a body", "POST", agents, "k1", `{"agentName":`, 400, refusal("InvalidParams", "The request body is invalid: it ends too early.")},
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
		{"list, cursor", "GET", agents + "?cursor=x", "", "", 400, refusal("InvalidParams", "The cursor is invalid.")},
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
		{"invite, no address", "POST", "/api/v1/agents/secret/invitations", "k1", `{"email":"a"}`, 400, refusal("InvalidParams", `\"a\" is not an email address.`)},
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
		{"unknown owner", "j1", send("secret", "free", `,"ownerId":5`), rpcError("-32602", "InvalidParams", "The params are invalid: ownerId must be a string, not a number.", "")},
		{"a list for params", "j1", `{"id":"r","method":"SendMessage","params":[]}`, rpcError("-32602", "InvalidParams", "The params are invalid: it must be an object, not an array.", "")},
		{"stream", "j1", send("echo", "free", `,"extensions":{"blocks":{"stream":"yes"}}`), rpcError("-32602", "InvalidParams", "The params are invalid: extensions.blocks.stream must be true or false, not a string.", "")},
		{"limit", "j1", `{"id":"r","method":"ListTasks","params":{"limit":1.5}}`, rpcError("-32602", "InvalidParams", "The params are invalid: limit must be a whole number, not 1.5.", "")},
		{"no parts", "j1", strings.Replace(send("echo", "free", ""), `"requestParts":[]`, `"x":1`, 1), rpcError("-32602", "InvalidParams", "requestParts must be an array of parts.", "")},
		{"null parts", "j1", parts(`null`), rpcError("-32602", "InvalidParams", "requestParts must be an array of parts.", "")},
		{"a text for parts", "j1", parts(`"x"`), rpcError("-32602", "InvalidParams", "requestParts must be an array of parts.", "")},
		{"a number for a part", "j1", parts(`[{"partId":"a","text":"x"},1]`), rpcError("-32602", "InvalidParams", "requestParts[1] must be an object.", "")},
		{"null for a part", "j1", parts(`[null]`), rpcError("-32602", "InvalidParams", "requestParts[0] must be an object.", "")},
		{"a number for a text", "j1", parts(`[{"partId":"a","text":5}]`), rpcError("-32602", "InvalidParams", "requestParts[0] is invalid: text must be a string, not a number.", "")},
		{"a list for a part's name", "j1", parts(`[{"partId":[],"text":"x"}]`), rpcError("-32602", "InvalidParams", "requestParts[0] is invalid: partId must be a string, not an array.", "")},
		{"a text for a file", "j1", parts(`[{"partId":"a","artifactRef":"x"}]`), rpcError("-32602", "InvalidParams", "requestParts[0].artifactRef is not a file reference.", "")},
		{"a text for a size", "j1", parts(`[{"partId":"a","artifactRef":{"kind":"inline","size":"x"}}]`), rpcError("-32602", "InvalidParams", "requestParts[0].artifactRef is not a file reference.", "")},
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
		{"params", "j1", `{"id":"r","method":"GetTask","params":{"taskId":5}}`, rpcError("-32602", "InvalidParams", "The params are invalid: taskId must be a string, not a number.", "")},
		{"cursor", "j1", `{"id":"r","method":"ListTasks","params":{"cursor":"x"}}`, rpcError("-32602", "InvalidParams", "The cursor is invalid.", "")},
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
