package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestQueue: order is kept, statuses beyond the bound give way to newer ones but not across an artifact, and no
// goroutine is left when there is nothing to send.
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
	for i := range 3 * maxWaiting {
		status(fmt.Sprint(i))
	}
	q.put(outgoing{artifact: func(context.Context) { sent = append(sent, "artifact") }})
	status("c")
	status("d")
	status("e")
	q.put(outgoing{body: []byte("terminal"), last: true})
	close(release)
	work.Wait()
	want := "running"
	for i := range maxWaiting - 1 {
		want += fmt.Sprint(" ", i)
	}
	want += fmt.Sprint(" ", 3*maxWaiting-1, " artifact e terminal")
	if diff := cmp.Diff(want, strings.Join(sent, " ")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if q.sending || q.waiting != nil {
		t.Error("the queue still holds something")
	}
}
