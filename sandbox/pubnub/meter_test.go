package pubnub

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/sandbox/pubsub"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// TestPublishLimits: the documented refusals, per channel and second, and per keyset; what is refused is not published
// and does not count.
func TestPublishLimits(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	var keysets []Keyset
	for _, key := range []string{"a", "b"} {
		space, err := pubsub.New(pubsub.Config{SubscribeKey: "sub-" + key, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		keysets = append(keysets, Keyset{PublishKey: "pub-" + key, Space: space})
	}
	s, err := New(Config{Keysets: keysets, Now: clock, PubNub: switches.PubNub{PublishRate: 2, PublishQuota: 6}})
	if err != nil {
		t.Fatal(err)
	}
	const sent, many, paid = `[1,"Sent","T"]`, `{"status":429,"error":true,"message":"Too Many Requests"}`, `{"status":402,"error":true,"message":"Payment Required"}`
	for i, tt := range []struct {
		key, channel, message string
		later                 time.Duration
		status                int
		want                  string
	}{
		{"a", "c", "1", 0, 200, sent},
		{"a", "c", "2", 0, 200, sent},
		{"a", "c", "3", 0, 429, many},
		{"a", "d", "4", 0, 200, sent},
		{"b", "c", "5", 0, 200, sent},
		{"a", "c", "6", time.Second, 200, sent},
		{"a", "c", "{", 0, 400, `[0,"Invalid JSON","T"]`},
		{"a", "c", "7", 0, 200, sent},
		{"a", "c", "8", 0, 429, many},
		{"a", "c", "9", time.Second, 200, sent},
		{"a", "c", "10", 0, 402, paid},
		{"b", "c", "11", 0, 200, sent},
	} {
		now = now.Add(tt.later)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "http://h/publish/pub-"+tt.key+"/sub-"+tt.key+"/0/"+tt.channel+"/0/"+strings.ReplaceAll(tt.message, "{", "%7B"), nil))
		if body := timetokens.ReplaceAllString(w.Body.String(), "T"); w.Code != tt.status || body != tt.want {
			t.Errorf("%d: %d %s, want %d %s", i, w.Code, body, tt.status, tt.want)
		}
		if retry := w.Header().Get("Retry-After"); (retry == "1") != (w.Code == http.StatusTooManyRequests) {
			t.Errorf("%d: Retry-After %q", i, retry)
		}
	}
	if n := keysets[0].Space.Stats().Messages; n != 6 {
		t.Errorf("%d messages were published, want 6", n)
	}
}
