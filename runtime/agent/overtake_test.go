package agent

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// TestTerminalDoesNotOvertake: an artifact is on its way when its handler crashes, or when its time is over after a
// cancellation. The network has it before the terminal, however slow it is.
func TestTerminalDoesNotOvertake(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(a *served, c *call, giveUp context.CancelFunc)
		want string
	}{
		{"the handler crashed", func(_ *served, _ *call, giveUp context.CancelFunc) { giveUp() }, "running artifact:x failed:It crashed."},
		{"the grace is over", func(a *served, _ *call, _ context.CancelFunc) {
			a.control(`{"type":"CancelTask","taskId":"t1"}`)
		}, "running artifact:x canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, st := newNetwork(t, true), newStage()
			f := n.fault()
			a := n.serve(cardOf(t, "worker", 4, ""), st, func(c *Config) {
				n.through(f)(c)
				c.Timeouts.InFlight = patience
			})
			a.await(StateOnline)
			onItsWay, overtaken := make(chan struct{}), make(chan struct{})
			f.set(func(_ http.ResponseWriter, r *http.Request) bool {
				if !isPublish(r) {
					return false
				}
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				switch {
				case bytes.Contains(body, []byte(`"type":"artifact"`)):
					close(onItsWay)
					*r = *r.WithContext(context.WithoutCancel(r.Context())) // it is not taken back
					select {
					case <-overtaken:
					case <-time.After(time.Second): // of the time that a terminal has to overtake it
					}
				case bytes.Contains(body, []byte(`"type":"terminal"`)):
					close(overtaken)
				}
				return false
			})
			a.control(startTask("t1", ""))
			c := st.next(t)
			ctx, giveUp := context.WithCancel(c.ctx)
			defer giveUp()
			published := make(chan error, 1)
			go func() {
				published <- c.port.Artifact(ctx, wire.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte("x")})
			}()
			<-onItsWay
			tt.end(a, c, giveUp)
			if err := <-published; err == nil {
				t.Error("the artifact was not given up")
			}
			c.result <- &dispatch.TaskFailure{Kind: dispatch.HandlerCrash, Public: "It crashed."}
			n.terminal("t1")
			n.same("t1", tt.want)
		})
	}
}
