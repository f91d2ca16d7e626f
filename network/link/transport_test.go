package link

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
)

// A peer that stands still when it is asked whether it speaks HTTP/2 is asked only once, and speaks it all the same.
func TestSlowPeerSpeaksHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := sandboxtest.NewPipes()
		srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(5 * time.Second) })}
		srv.Protocols.SetHTTP1(true)
		srv.Protocols.SetUnencryptedHTTP2(true)
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = srv.Serve(pipes) // until Close
		}()
		tr := pipes.Transport()
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
		if !answersHTTP2(t.Context(), tr, "http://peer") {
			t.Error("it is taken for one that does not speak HTTP/2")
		}
		tr.CloseIdleConnections()
		_ = srv.Close()
		<-served
	})
}
