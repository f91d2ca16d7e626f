package link_test

import (
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/link"
)

// realToken has the form of PubNub's own tokens; its end is missing.
const realToken = "qEF2AkF0GmFtet9DdHRsGBhDcmVzpURjaGFuoWpteS1jaGFubmVsGB9DZ3JwoEN1c3KgQ3NwY6BEdXVpZKBDcGF0pURjaGFuoENncnCgQ3VzcqBDc3BjoER1dWlkoERtZXRhoENzaWdYIK0I"

func TestTokenLife(t *testing.T) {
	issued := time.Unix(0x616d7adf, 0)
	for name, token := range map[string]string{
		"padded": "okF0GmFtet9DdHRsGBg=", "bare": "okF0GmFtet9DdHRsGBg", "classic alphabet": "okF0GmFtet9DdHRsGBg=",
	} {
		at, end, ok := link.TokenLife(token)
		if !ok || !at.Equal(issued) || end.Sub(at) != 24*time.Minute {
			t.Errorf("%s: %v to %v, %v", name, at, end, ok)
		}
	}
	for _, bad := range []string{"", "secret", "!!!", realToken /* cut short */, "oA==", "okF0YWFDdHRsGBg=", "okF0GmFtet9DdHRsAA==", strings.Repeat("A", 1<<20)} {
		if at, end, ok := link.TokenLife(bad); ok {
			t.Errorf("%.20q: %v to %v", bad, at, end)
		}
	}
}

func FuzzTokenLife(f *testing.F) {
	f.Add("okF0GmFtet9DdHRsGBg=")
	f.Add(realToken)
	f.Fuzz(func(t *testing.T, token string) {
		if at, end, ok := link.TokenLife(token); ok && !end.After(at) {
			t.Errorf("%v to %v", at, end)
		}
	})
}
