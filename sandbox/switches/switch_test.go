package switches

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tables(b *Blocks, p *PubNub, h *History, r *Presence) []Switch {
	return slices.Concat(b.Table(), p.Table(), h.Table(), r.Table())
}

// TestDefaults: what is not set gets its default, which is within the switch's own bounds; what is set stays.
func TestDefaults(t *testing.T) {
	var (
		b = Blocks{SafetyNet: time.Second, KeepFinished: -1}
		p = PubNub{PublishRate: 3}
		h History
		r = Presence{AnnounceMax: -1}
	)
	all := tables(&b, &p, &h, &r)
	SetDefaults(all)
	names := map[string]bool{}
	for _, s := range all {
		if problem := s.Problem(); problem != "" && s.Name != "announce-max" {
			t.Errorf("--%s %s: %s", s.Name, s, problem)
		}
		if names[s.Name] || s.Usage == "" {
			t.Errorf("--%s is there twice, or without a usage", s.Name)
		}
		names[s.Name] = true
	}
	if b.SafetyNet != time.Second || p.PublishRate != 3 || p.PublishQuota != 0 || r.AnnounceMax != -1 {
		t.Errorf("what was set has changed: %+v %+v %+v", b, p, r)
	}
	if b.CancelBudget != 30*time.Second || b.KeepFinished != 10_000 || p.HoldPoll != 280*time.Second || h.RingSize != 100 || r.PresenceInterval != 10*time.Second {
		t.Errorf("other defaults: %+v %+v %+v %+v", b, p, h, r)
	}
}

func TestProblems(t *testing.T) {
	for want, set := range map[string]func(*Blocks, *PubNub, *History, *Presence){
		"--cancel-budget 0s: it must be more than 0":                                 func(b *Blocks, _ *PubNub, _ *History, _ *Presence) { b.CancelBudget = 0 },
		"--keep-finished 0: it must be at least 1":                                   func(b *Blocks, _ *PubNub, _ *History, _ *Presence) { b.KeepFinished = 0 },
		"--control-token-ttl 30s: it must be between 1m0s and 720h0m0s":              func(b *Blocks, _ *PubNub, _ *History, _ *Presence) { b.ControlTokenTTL = 30 * time.Second },
		"--hold-poll 5m10s: it must be less than 5m10s, after which clients give up": func(_ *Blocks, p *PubNub, _ *History, _ *Presence) { p.HoldPoll = 310 * time.Second },
		"--hold-poll -1s: it must be more than 0":                                    func(_ *Blocks, p *PubNub, _ *History, _ *Presence) { p.HoldPoll = -time.Second },
		"--publish-quota -1: it must be at least 0":                                  func(_ *Blocks, p *PubNub, _ *History, _ *Presence) { p.PublishQuota = -1 },
		"--announce-max -1: it must be at least 0":                                   func(_ *Blocks, _ *PubNub, _ *History, r *Presence) { r.AnnounceMax = -1 },
	} {
		var (
			b Blocks
			p PubNub
			h History
			r Presence
		)
		all := tables(&b, &p, &h, &r)
		SetDefaults(all)
		set(&b, &p, &h, &r)
		var got []string
		for _, s := range all {
			if problem := s.Problem(); problem != "" {
				got = append(got, "--"+s.Name+" "+s.String()+": "+problem)
			}
		}
		if !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
