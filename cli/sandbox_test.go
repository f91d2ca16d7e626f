package cli

import (
	"strings"
	"testing"
)

func TestSandboxOptions(t *testing.T) {
	for args, want := range map[string]string{
		"":                            "",
		"--announce-max 0 --lossless": "",
		"--cancel-budget 0s":          "--cancel-budget 0s: it must be more than 0",
		"--safety-net -1s":            "--safety-net -1s: it must be more than 0",
		"--keep-finished-for 0s":      "--keep-finished-for 0s: it must be more than 0",
		"--keep-finished 0":           "--keep-finished 0: it must be at least 1",
		"--record -1":                 "--record -1: it must be at least 0",
		"--publish-rate -1":           "--publish-rate -1: it must be at least 0",
		"--control-token-ttl 30s":     "--control-token-ttl 30s: it must be between 1m0s and 720h0m0s",
		"--hold-poll 310s":            "--hold-poll 5m10s: it must be less than 5m10s, after which clients give up",
	} {
		var o sandboxOptions
		cmd := sandboxCommand(&o)
		if err := cmd.ParseFlags(strings.Fields(args)); err != nil {
			t.Fatal(args, err)
		}
		cfg, err := o.config()
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", args, err, want)
		case strings.HasPrefix(args, "--announce-max") && (cfg.AnnounceMax != -1 || !cfg.Lossless):
			t.Errorf("%s: %+v", args, cfg)
		}
	}
}
