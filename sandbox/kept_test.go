package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"mime/multipart"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/blob"
)

// probe is a request whose answer must be the same before and after a restart.
type probe struct{ name, method, path, bearer, body string }

// answers sends the probes.
func (b *bed) answers(probes []probe) map[string]string {
	b.t.Helper()
	out := map[string]string{}
	for _, p := range probes {
		status, body, header := b.do(p.method, p.path, p.bearer, p.body)
		out[p.name] = fmt.Sprintf("%d %s %s", status, body, header.Get("Location"))
	}
	return out
}

// TestKeptPubSub: what was done in all keysets before a restart is so after it: histories, message actions, channel
// groups, files, tokens that were revoked, and refresh tokens.
func TestKeptPubSub(t *testing.T) {
	dir := t.TempDir()
	var (
		probes []probe
		before map[string]string
		fresh  string
	)
	found := func(text, pattern string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("%s has no %s", text, pattern)
		}
		return m[1]
	}
	addr := runIn(t, dir, "", func(b *bed) {
		must := func(method, path, body string) string {
			t.Helper()
			status, got, _ := b.do(method, path, "", body)
			if status != 200 {
				t.Fatalf("%s %s: %d %s", method, path, status, got)
			}
			return got
		}
		sub := b.keys.Open.SubscribeKey
		publish := "/publish/" + b.keys.Open.PublishKey + "/" + sub + "/0/c/0?uuid=u&meta=%7B%22k%22%3A1%7D"
		first := found(must("POST", publish, `"one"`), `"([0-9]{17})"`)
		gone := found(must("POST", publish, `"two"`), `"([0-9]{17})"`)
		act := "/v1/message-actions/" + sub + "/channel/c/message/" + first
		must("POST", act+"?uuid=a", `{"type":"reaction","value":"smile"}`)
		taken := found(must("POST", act+"?uuid=b", `{"type":"reaction","value":"frown"}`), `"actionTimetoken":"([0-9]+)"`)
		must("DELETE", act+"/action/"+taken+"?uuid=b", "")
		must("DELETE", "/v3/history/sub-key/"+sub+"/channel/c?start="+gone+"0&end="+gone, "") // nothing: the bounds are swapped
		must("DELETE", "/v3/history/sub-key/"+sub+"/channel/c?end="+gone, "")
		groups := "/v1/channel-registration/sub-key/" + sub + "/channel-group"
		must("GET", groups+"/g?add=c,d", "")
		must("GET", groups+"/g?remove=d", "")
		must("GET", groups+"/h?add=c", "")
		must("GET", groups+"/h/remove", "")

		announced := must("POST", "/v1/files/"+sub+"/channels/c/generate-upload-url", `{"name":"f.txt"}`)
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		part, _ := w.CreateFormFile("file", "f.txt")
		_, _ = part.Write([]byte("content"))
		w.Close()
		address := found(announced, `"url":"([^"]+)"`)
		res, err := b.http.Post(address, w.FormDataContentType(), &form)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		id := found(announced, `"id":"([^"]+)"`)

		var tokens []string
		for i, manager := range b.managers {
			token, err := manager.Issue(access.Grant{Issued: time.Now(), TTL: time.Hour, Channels: map[string]access.Right{"c": access.Read}})
			if err == nil {
				err = b.RevokeToken(token)
			}
			if err != nil {
				t.Fatal(i, err)
			}
			tokens = append(tokens, token)
		}
		var credentials struct{ RefreshToken string }
		b.call("POST", "/api/v1/auth/agent/consumer-token", "", object{"apiKey": b.APIKey()}, &credentials)
		used := credentials.RefreshToken
		b.call("POST", "/api/v1/auth/agent/refresh", b.APIKey(), object{"refreshToken": used}, &credentials)
		fresh = credentials.RefreshToken

		probes = []probe{
			{"history", "GET", "/v3/history-with-actions/sub-key/" + sub + "/channel/c?include_meta=true&include_uuid=true", "", ""},
			{"actions", "GET", "/v1/message-actions/" + sub + "/channel/c", "", ""},
			{"again", "POST", act + "?uuid=a", "", `{"type":"reaction","value":"smile"}`},
			{"groups", "GET", groups, "", ""},
			{"group", "GET", groups + "/g", "", ""},
			{"files", "GET", "/v1/files/" + sub + "/channels/c/files", "", ""},
			{"file", "GET", "/v1/files/" + sub + "/channels/c/files/" + id + "/f.txt", "", ""},
			{"content", "GET", strings.Replace(address, "_upload", "_files", 1) + "/f.txt", "", ""},
			{"used refresh token", "POST", "/api/v1/auth/agent/refresh", b.APIKey(), `{"refreshToken":"` + used + `"}`},
		}
		for i, token := range tokens {
			key := b.spaces[[]int{0, 1, 3}[i]].SubscribeKey()
			probes = append(probes, probe{fmt.Sprint("revoked token ", i), "GET", "/v2/subscribe/" + key + "/c/0?uuid=u&auth=" + url.QueryEscape(token), "", ""})
		}
		before = b.answers(probes)
		for name, want := range map[string]string{
			"history": `"message":"one"`, "actions": `"value":"smile"`, "again": "409 ", "groups": `"groups":["g"]`, "group": `"channels":["c"]`,
			"files": `"size":7`, "file": "307 ", "content": "200 content", "used refresh token": "REFRESH_TOKEN_INVALID",
			"revoked token 0": "Token is revoked", "revoked token 1": "Token is revoked", "revoked token 2": "Token is revoked",
		} {
			if !strings.Contains(before[name], want) || strings.Contains(before[name], "frown") || strings.Contains(before[name], "two") {
				t.Errorf("%s: %s", name, before[name])
			}
		}
	})
	file := func(name string) string {
		path := filepath.Join(dir, filesDir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	leftovers := []string{file(blob.ID()), file("." + blob.ID() + ".tmp-1")} // of uploads that were under way at the end
	foreign := []string{file("thesis.txt"), file("README")}
	runIn(t, dir, addr, func(b *bed) {
		if diff := cmp.Diff(before, b.answers(probes)); diff != "" {
			t.Error(diff)
		}
		for _, path := range leftovers {
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the leftover of an upload: %v", err)
			}
		}
		for _, path := range foreign {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("a file that is not ours: %v", err)
			}
		}
		b.call("POST", "/api/v1/auth/agent/refresh", b.APIKey(), object{"refreshToken": fresh}, &struct{}{})
		if status, body, _ := b.do("DELETE", probes[6].path, "", ""); status != 200 {
			t.Errorf("delete the file: %d %s", status, body)
		}
	})
	runIn(t, dir, addr, func(b *bed) {
		for name, got := range b.answers(probes[6:8]) {
			if strings.HasPrefix(got, "2") || strings.HasPrefix(got, "3") {
				t.Errorf("%s of a deleted file: %s", name, got)
			}
		}
	})
}
