package doctor

import (
	"strings"
	"testing"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
)

// A command to copy means the file that it is about, whatever that is called.
func TestCommandsQuoteNames(t *testing.T) {
	const path, quoted = "/my cards/it's", `'/my cards/it'\''s'`
	for want, got := range map[string]Result{
		"blocksd check --config " + quoted + " names every problem": aboutConfiguration(path, config.Problems{{Message: "one"}}, nil, nil),
		"blocksd register " + quoted:                                aboutEntry(path, card.Card{}, backend.Agent{}, "", backend.ErrNotFound),
		"chmod 0700 " + quoted:                                      aboutState(directory{path: path, isDir: true, mode: 0o777, room: -1}),
	} {
		if !strings.HasSuffix(got.Fix, want) {
			t.Errorf("got  %s\nwant %s", got.Fix, want)
		}
	}
}
