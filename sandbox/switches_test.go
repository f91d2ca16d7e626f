package sandbox

import (
	"fmt"
	"testing"
	"time"
)

// TestSwitches: what is off by default is on when it is asked for.
func TestSwitches(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*Config)
		request func(b *bed) string // the path of a GET that is sent twice
		without []int
		with    []int
	}{
		{"any signature", func(c *Config) { c.AnySignature = true }, func(b *bed) string {
			return fmt.Sprintf("/v2/presence/sub-key/%s?uuid=u&timestamp=%d&signature=v2.guess", b.keys.PAM.SubscribeKey, time.Now().Unix())
		}, []int{403, 403}, []int{200, 200}},
		{"publish rate", func(c *Config) {
			c.PublishRate = 1
			begin := time.Now()
			c.Now = func() time.Time { return begin } // both are in one second
		}, publishOne, []int{200, 200}, []int{200, 429}},
		{"publish quota", func(c *Config) { c.PublishQuota = 1 }, publishOne, []int{200, 200}, []int{200, 402}},
	}
	for _, tt := range tests {
		for want, change := range map[*[]int]func(*Config){&tt.without: nil, &tt.with: tt.change} {
			b := start(t, change)
			for i, status := range *want {
				if got, body, _ := b.do("GET", tt.request(b), "", ""); got != status {
					t.Errorf("%s, on: %v, request %d: %d %s, want %d", tt.name, change != nil, i, got, body, status)
				}
			}
		}
	}
}

func publishOne(b *bed) string {
	return "/publish/" + b.keys.Open.PublishKey + "/" + b.keys.Open.SubscribeKey + "/0/c/0/1?uuid=u"
}
