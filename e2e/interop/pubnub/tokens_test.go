package pubnub

import (
	"net/http"
	"slices"
	"testing"
)

// refused does what the access manager must not allow.
func refused(c *client, cmd command) {
	c.t.Helper()
	if a := c.try(cmd); a.OK || a.Status != 403 {
		c.t.Errorf("%s of %s by %s: %+v, want 403", cmd.Op, cmd.Channel, c.name, a)
	}
}

// TestTokens: granted and signed by each SDK, parsed by each, allowing what was granted and nothing else, also to a held
// poll after revocation.
func TestTokens(t *testing.T) {
	k := network(t)
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			admin, user := start(t, sdk, k.signing("admin")), start(t, sdk, k.pam("user"))
			read, write := "read."+sdk, "write."+sdk
			var granted struct{ Token string }
			admin.do(command{
				Op: "grant", TTL: 15, UUID: "user", Channels: map[string]string{read: "r", write: "w"}, Groups: map[string]string{"g-" + sdk: "rm"},
				Patterns: map[string]string{"^pat\\.[a-z]+$": "rw"},
			}, &granted)
			for _, other := range sdks {
				var p struct {
					TTL                int
					UUID               string
					Channels, Patterns []string
				}
				start(t, other, k.open("parser")).do(command{Op: "parseToken", Token: granted.Token}, &p)
				slices.Sort(p.Channels)
				if p.TTL != 15 || p.UUID != "user" || !slices.Equal(p.Channels, []string{read, write}) || !slices.Equal(p.Patterns, []string{"^pat\\.[a-z]+$"}) {
					t.Errorf("%s parses %+v", other, p)
				}
			}
			refused(user, command{Op: "publish", Channel: write, Message: "no token"})
			user.do(command{Op: "setToken", Token: granted.Token}, nil)
			user.timetoken(command{Op: "publish", Channel: write, Message: "m"})
			user.timetoken(command{Op: "publish", Channel: "pat.x", Message: "m", Post: true})
			refused(user, command{Op: "publish", Channel: read, Message: "m"})
			refused(user, command{Op: "publish", Channel: "pat.1", Message: "m"})
			refused(user, command{Op: "history", Channel: write, Count: 1})
			user.do(command{Op: "history", Channel: read, Count: 1}, nil)
			user.do(command{Op: "groupAdd", Group: "g-" + sdk, Channels: []string{read}}, nil)
			refused(user, command{Op: "groupAdd", Group: "other", Channels: []string{read}})
			// Bound to its user id.
			thief := start(t, sdk, k.pam("thief"))
			thief.do(command{Op: "setToken", Token: granted.Token}, nil)
			refused(thief, command{Op: "publish", Channel: write, Message: "stolen"})
			// Signed requests need no token, by GET and by POST, with all that is hard to sign.
			for _, post := range []bool{false, true} {
				admin.timetoken(command{Op: "publish", Channel: "any/ü *!'()~", Message: "a b&<>+%", Meta: object{"k": "v w~*"}, Post: post})
			}
			var counts struct{ Channels map[string]int }
			admin.do(command{Op: "counts", Channels: []string{"any"}, Timetokens: []string{"1"}}, &counts)
			cfg := k.signing("guesser")
			cfg.SecretKey = "sec-c-wrong"
			guesser := start(t, sdk, cfg)
			refused(guesser, command{Op: "publish", Channel: write, Message: "m"})
			// Revocation ends the poll that is being held.
			user.subscribe(command{Channels: []string{read}, Groups: []string{"g-" + sdk}})
			admin.timetoken(command{Op: "publish", Channel: read, Message: "heard"})
			if m := user.next("message").Message; m != "heard" {
				t.Errorf("heard %v", m)
			}
			admin.do(command{Op: "revoke", Token: granted.Token}, nil)
			user.until("status", denied(sdk))
			refused(user, command{Op: "publish", Channel: write, Message: "m"})
		})
	}
}

// TestTokenExpiry: a token runs out while the SDK that holds it listens. Everything that it does from then on is refused,
// its next poll too; the tokens of others go on working. The network's clock is set on, so that nobody waits and no slow
// machine lets a token run out before its time.
func TestTokenExpiry(t *testing.T) {
	k := network(t)
	admin := start(t, "go", k.signing("admin"))
	grant := func(ttl int, uuid, channel, rights string) (token string) {
		var granted struct{ Token string }
		admin.do(command{Op: "grant", TTL: ttl, UUID: uuid, Channels: map[string]string{channel: rights}}, &granted)
		return granted.Token
	}
	type pair struct {
		sdk, channel   string
		reader, writer *client
	}
	var pairs []pair
	for _, sdk := range sdks {
		p := pair{sdk, "expiry." + sdk, start(t, sdk, k.pam("reader-"+sdk)), start(t, sdk, k.pam("writer-"+sdk))}
		p.reader.do(command{Op: "setToken", Token: grant(15, "reader-"+sdk, p.channel, "rw")}, nil)
		p.writer.do(command{Op: "setToken", Token: grant(60, "writer-"+sdk, p.channel, "w")}, nil)
		p.reader.subscribe(command{Channels: []string{p.channel}})
		p.reader.timetoken(command{Op: "publish", Channel: p.channel, Message: "in time"})
		if m := p.reader.next("message").Message; m != "in time" {
			t.Errorf("%s heard %v", sdk, m)
		}
		pairs = append(pairs, p)
	}
	k.ask(t, http.MethodPut, "clock", `{"skew":"16m"}`)
	for _, p := range pairs {
		refused(p.reader, command{Op: "publish", Channel: p.channel, Message: "late"})
		// A poll that was allowed when it began is answered, the one after it is not.
		p.writer.timetoken(command{Op: "publish", Channel: p.channel, Message: "wakes the poll"})
		p.reader.until("status", denied(p.sdk))
		refused(p.reader, command{Op: "history", Channel: p.channel, Count: 1})
	}
}
