package api

import (
	"regexp"
	"strings"
	"testing"
)

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
	exact("POST", "/api/v1/agent-invitations/accept", "k3", `{"token":"`+token+`"}`, 403, refusal("PermissionDenied", "The invitation is for another user or organization."))
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
