package api

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
)

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
