package deployment_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/deployment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestResolve(t *testing.T) {
	public := backend.CDM{BaseURL: "https://api.example"}
	sandbox := backend.CDM{BaseURL: "http://127.0.0.1:1", PubNubOrigin: "127.0.0.1:1"}
	for _, c := range []struct {
		name     string
		config   deployment.Config
		document backend.CDM
		want     deployment.Deployment
	}{
		{"the document alone", deployment.Config{}, public, deployment.Deployment{CDM: public, BackendURL: "https://api.example", Origin: "ps.pndsn.com", Secure: true}},
		{"a sandbox's document", deployment.Config{}, sandbox, deployment.Deployment{CDM: sandbox, BackendURL: "http://127.0.0.1:1", Origin: "127.0.0.1:1"}},
		{
			"what is given wins", deployment.Config{BackendURL: "https://other.example", PubNubOrigin: "127.0.0.1:2"}, sandbox,
			deployment.Deployment{CDM: sandbox, BackendURL: "https://other.example", Origin: "127.0.0.1:2"},
		},
	} {
		if got := c.config.Resolve(c.document); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestFromEnvironment(t *testing.T) {
	env := map[string]string{"BLOCKS_CDM_URL": "http://a", "BLOCKS_BACKEND_URL": "http://b", "BLOCKSD_PUBNUB_ORIGIN": "c:1"}
	got := deployment.FromEnvironment(func(name string) string { return env[name] })
	if want := (deployment.Config{CDMURL: "http://a", BackendURL: "http://b", PubNubOrigin: "c:1"}); got != want || got.URL() != "http://a" {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if url := (deployment.Config{}).URL(); url != backend.DefaultCDMURL {
		t.Errorf("without a variable the document is looked for at %s", url)
	}
}

// TestFetch: one request, and what the document says is what counts.
func TestFetch(t *testing.T) {
	requests := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		_, _ = w.Write([]byte(`{"playground":{"publishKey":"p","subscribeKey":"s"},"network":{"publishKey":"p2","subscribeKey":"s2"},"api":{"baseUrl":"http://api"},"sandbox":{"pubnubOrigin":"h:1"}}`))
	}))
	defer s.Close()
	d, err := deployment.Config{CDMURL: s.URL}.Fetch(t.Context(), s.Client())
	if err != nil || d.BackendURL != "http://api" || d.Origin != "h:1" || d.Secure || d.CDM.Network.SubscribeKey != "s2" || requests != 1 {
		t.Errorf("got %+v, %v after %d requests", d, err, requests)
	}
	if _, err := (deployment.Config{CDMURL: "ftp://x"}).Fetch(t.Context(), nil); err == nil {
		t.Error("an address that is none is accepted")
	}
}
