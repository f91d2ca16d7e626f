package agent

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestQueue: order is kept, a status that waits gives way to a newer one but not across an artifact, and no goroutine
// is left when there is nothing to send.
func TestQueue(t *testing.T) {
	var work sync.WaitGroup
	var sent []string
	entered, release := make(chan struct{}), make(chan struct{})
	q := queue{
		start: func(f func()) { work.Go(f) },
		send: func(o outgoing) {
			if len(sent) == 0 {
				close(entered)
				<-release
			}
			if o.artifact != nil {
				o.artifact(t.Context())
				return
			}
			sent = append(sent, string(o.body))
		},
	}
	status := func(s string) { q.put(outgoing{body: []byte(s), replaceable: true}) }
	q.put(outgoing{body: []byte("running")})
	<-entered
	status("a")
	status("b")
	q.put(outgoing{artifact: func(context.Context) { sent = append(sent, "artifact") }})
	status("c")
	status("d")
	q.put(outgoing{body: []byte("terminal"), last: true})
	close(release)
	work.Wait()
	if diff := cmp.Diff("running b artifact d terminal", strings.Join(sent, " ")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if q.sending || q.waiting != nil {
		t.Error("the queue still holds something")
	}
}
