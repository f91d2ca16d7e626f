package pubnub

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

// odd is a JSON value that a model may stumble over.
func odd(r *rand.Rand, depth int) string {
	atoms := []string{
		`null`, `true`, `0`, `-0.0`, `1e400`, `12345678901234567890`, `""`, `"\u0000"`, `"\ud83d\ude00"`, `"😀"`, `"\u2028"`, `"a\"b\\"`, `[]`, `{}`, `"%2F"`, `"<&>"`,
		`{"message":"text"}`, `{"e":4}`, `{"":1}`, `"` + strings.Repeat("x", 300) + `"`,
	}
	// What every JSON reader takes: the largest number that fits is enough.
	atoms[4] = `1e300`
	switch n := r.IntN(10); {
	case depth > 0 && n == 0:
		return "[" + odd(r, depth-1) + "," + odd(r, depth-1) + "]"
	case depth > 0 && n <= 2:
		return `{"k":` + odd(r, depth-1) + `,"d":` + odd(r, depth-1) + `}`
	default:
		return atoms[r.IntN(len(atoms))]
	}
}

// TestOddEnvelopes: whatever the sandbox takes, every SDK can read: of 200 messages and signals with odd payloads, meta
// data, senders and types it hears every message, once.
func TestOddEnvelopes(t *testing.T) {
	k := network(t)
	const seed = 20240501
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			c := start(t, sdk, k.open("reader"))
			channel := "odd." + sdk
			c.subscribe(command{Channels: []string{channel}, Presence: true})
			esc := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
			messages := 0
			for i := range 200 {
				kind := "publish"
				body := odd(r, 3)
				if r.IntN(4) == 0 && len(body) <= 64 {
					kind = "signal"
				}
				query := []string{"uuid=" + esc([]string{"w", "w/ü 1", "\"", strings.Repeat("u", 92)}[r.IntN(4)])}
				if r.IntN(2) == 0 {
					query = append(query, "meta="+esc(odd(r, 2)))
				}
				if r.IntN(2) == 0 {
					query = append(query, "custom_message_type=my-type_1")
				}
				if r.IntN(2) == 0 {
					query = append(query, fmt.Sprintf("seqn=%d", r.IntN(65535)+1))
				}
				if r.IntN(4) == 0 {
					query = append(query, "ortt="+esc(`{"t":14780000000000000}`))
				}
				status, answer := get(t, k.origin, fmt.Sprintf("/%s/%s/%s/0/%s/0/%s?%s", kind, k.openPublish, k.openSubscribe, channel, esc(body), strings.Join(query, "&")))
				if status != 200 {
					t.Fatalf("%s of %s: %d %s", kind, body, status, answer)
				}
				if kind == "publish" {
					messages++
				}
				if i%50 == 49 { // never more behind than the ring holds
					mark := fmt.Sprint("mark", i)
					publish(t, k, channel, mark)
					heard := false
					for range messages + 1 { // in whatever order
						heard = c.next("message").Message == mark || heard
					}
					if !heard {
						t.Errorf("%s is not among the messages up to it: one of them came twice", mark)
					}
					messages = 0
				}
			}
		})
	}
}
