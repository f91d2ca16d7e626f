package sandbox

import (
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/sandbox/access"
)

// TestTokensEndHeldPolls: the end of a token, by its time or by revocation, ends the polls that are being held with it,
// and no others.
func TestTokensEndHeldPolls(t *testing.T) {
	const life = 10 * time.Minute
	for _, end := range []string{"expired", "revoked"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			var ahead atomic.Int64
			b := start(t, func(c *Config) {
				c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
				c.ControlTokenTTL = life
			})
			b.register("echo", 1, `{}`)
			w := b.work("echo", "AG-echo-1", 1) // its own poll is held from here on
			issue := func(channel string, ttl time.Duration) string {
				t.Helper()
				token, err := b.managers[2].Issue(access.Grant{Issued: b.now(), TTL: ttl, Channels: map[string]access.Right{channel: access.Read | access.Write}})
				if err != nil {
					t.Fatal(err)
				}
				return token
			}
			plain, lasting := issue("c", life), issue("c", 2*life)
			type answer struct {
				status int
				body   string
			}
			hold := func(space int, channel, uuid, token string) chan answer {
				t.Helper()
				held := b.spaces[space].Stats().Polls
				got := make(chan answer, 1)
				path := "/v2/subscribe/" + b.spaces[space].SubscribeKey() + "/" + channel + "/0?tt=17000000000000000&uuid=" + uuid + "&auth=" + url.QueryEscape(token)
				go func() {
					res, err := b.http.Get(b.URL() + path)
					if err != nil {
						got <- answer{body: err.Error()}
						return
					}
					defer res.Body.Close()
					raw := make([]byte, 4096)
					n, _ := res.Body.Read(raw) // nil or EOF: the answers are small
					got <- answer{res.StatusCode, string(raw[:n])}
				}()
				b.await("the poll is held", func() bool { return b.spaces[space].Stats().Polls == held+1 })
				return got
			}
			ending := map[string]chan answer{"a client": hold(3, "c", "u1", plain), "an instance": hold(0, w.control, w.id, w.token)}
			other := hold(3, "c", "u2", lasting)
			if end == "expired" {
				ahead.Store(int64(life + time.Second))
			} else {
				for _, token := range []string{plain, w.token} {
					if err := b.RevokeToken(token); err != nil {
						t.Fatal(err)
					}
				}
			}
			for who, got := range ending {
				select {
				case a := <-got:
					if a.status != 403 || !strings.Contains(a.body, "Token is "+end) {
						t.Errorf("poll of %s: %d %s", who, a.status, a.body)
					}
				case <-time.After(patience):
					t.Errorf("the poll of %s is held on", who)
				}
			}
			select {
			case <-w.done: // its loop ends with the first answer that is none
			case <-time.After(patience):
				t.Error("the instance's own poll is held on")
			}
			if status, body, _ := b.do("POST", "/publish/"+b.keys.PAM.PublishKey+"/"+b.keys.PAM.SubscribeKey+"/0/c/0?uuid=x&auth="+url.QueryEscape(lasting), "", `"on"`); status != 200 {
				t.Fatalf("publish: %d %s", status, body)
			}
			if a := <-other; a.status != 200 || !strings.Contains(a.body, `"d":"on"`) {
				t.Errorf("the poll with another token: %d %s", a.status, a.body)
			}
		})
	}
}
