package cli

import (
	"strings"
	"testing"
	"time"
)

func TestSandboxOptions(t *testing.T) {
	good := func() sandboxOptions {
		return sandboxOptions{
			listen: "127.0.0.1:0", cancelBudget: time.Second, safetyNet: time.Second, streamRevoke: time.Second, consumerToken: time.Minute, agentToken: time.Minute,
			maxFile: 1, keepFinished: 1,
		}
	}
	if cfg, err := good().config(); err != nil || cfg.SafetyNet != time.Second || cfg.MaxFileBytes != 1 {
		t.Errorf("%+v, %v", cfg, err)
	}
	for want, spoil := range map[string]func(*sandboxOptions){
		"--cancel-budget 0s: it must be more than 0":                                          func(o *sandboxOptions) { o.cancelBudget = 0 },
		"--safety-net -1s: it must be more than 0":                                            func(o *sandboxOptions) { o.safetyNet = -time.Second },
		"--max-file-bytes and --keep-finished must be more than 0, and --record not negative": func(o *sandboxOptions) { o.record = -1 },
	} {
		o := good()
		spoil(&o)
		if _, err := o.config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
