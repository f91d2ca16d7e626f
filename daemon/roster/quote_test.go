package roster

import (
	"strings"
	"testing"
)

// A command to copy names the handler, whatever that is called.
func TestCommandsQuoteNames(t *testing.T) {
	for code, command := range map[Code]string{ChecksumUnknown: "handler pin", PinUnread: "handler pin", AgentHeld: "handler assign"} {
		for _, state := range []string{"", goesOn} {
			r := Reason{Code: code, Object: "my $handler", Other: "other", State: state}
			if got := r.Text(); !strings.Contains(got, "blocksd "+command+" 'my $handler'") {
				t.Errorf("%v: %s", code, got)
			}
		}
	}
}
