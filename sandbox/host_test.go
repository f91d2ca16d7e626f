package sandbox

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestLocalHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:3001": true, "127.0.0.1": true, "localhost:3001": true, "LocalHost": true, "[::1]:3001": true, "[::1]": true, "10.0.2.2:80": true,
		"": false, "evil.example:3001": false, "evil.example": false, "localhost.evil.example": false, "127.0.0.1.evil.example:80": false,
	} {
		if got := localHost(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}

// TestOtherHostsAreRefused: no path answers a page whose host name was made to lead here.
func TestOtherHostsAreRefused(t *testing.T) {
	b := start(t, nil)
	for _, path := range []string{"/api/v1/cdm", AdminPath + "status", "/time/0", "/"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusMisdirectedRequest || !strings.Contains(string(body), `not to "evil.example"`) {
			t.Errorf("%s: %d %s, %v", path, resp.StatusCode, body, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
