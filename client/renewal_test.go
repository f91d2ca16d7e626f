package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// C9, C10: three failures in a row are reported once; the old token stays in use; the next call tries once more.
func TestRenewalIsGivenUp(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		var reported []time.Time
		o := w.options()
		o.OnAuthError = func(err error) {
			if e, ok := errors.AsType[*client.AuthRefreshFailedError](err); ok {
				t.Errorf("wrapped: %v", e)
			}
			reported = append(reported, time.Now())
		}
		start := time.Now()
		c := w.clientOf(o)
		if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
			t.Fatal(err)
		}
		old := w.spy.rpc("ListTasks")[0].bearer()
		down := w.fault(fault.Rule{Endpoint: "refresh", Status: http.StatusServiceUnavailable})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(reported) != 1 || reported[0].Sub(start).Round(time.Second) != 63*time.Second { // 48 + 5 + 10
			t.Errorf("reported %v after the start", reported)
		}
		if n := len(w.spy.find("/api/v1/auth/agent/refresh", "")); n != 3 {
			t.Errorf("%d attempts", n)
		}
		// C10: one more attempt with the next call, and nothing else is sent when it fails.
		w.spy.forget()
		_, _, err := c.Tasks(t.Context(), client.TaskFilter{})
		if _, ok := errors.AsType[*client.AuthRefreshFailedError](err); !ok {
			t.Errorf("%v", err)
		}
		if n := len(w.spy.rpc("ListTasks")); n != 0 {
			t.Errorf("%d calls were sent", n)
		}
		w.sb.Faults().Remove(down)
		if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
			t.Fatal(err)
		}
		if got := w.spy.rpc("ListTasks")[0].bearer(); got == old {
			t.Error("the old token is still in use")
		}
		w.spy.forget()
		time.Sleep(50 * time.Second)
		if n := len(w.spy.find("/api/v1/auth/agent/refresh", "")); n != 1 {
			t.Errorf("%d renewals after the recovery", n)
		}
	})
}

// C9: as long as the network takes the old token, it is used.
func TestOldTokenStaysInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		o := w.options()
		o.APIKey, o.TokenFunc = "", func() func(context.Context) (client.Token, error) {
			calls := 0
			return func(context.Context) (client.Token, error) {
				if calls++; calls > 1 {
					return client.Token{}, errors.New("no more")
				}
				return client.Token{Value: w.token(), ExpiresIn: 10 * time.Second}, nil // it is good for a minute
			}
		}()
		c := w.clientOf(o)
		time.Sleep(10 * time.Second) // one attempt has failed, and the next one is due in a while
		if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
			t.Error(err)
		}
	})
}

// C11: a refused token is renewed once and the call repeated once, byte for byte.
func TestRefusedTokenIsRenewed(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	refused := []fault.Rule{{Endpoint: "rpc", Status: http.StatusUnauthorized}}
	for _, code := range []string{"EMBEDDED_JWT_REVOKED", "EMBEDDED_JWT_LOGOUT", "EMBEDDED_JWT_KILLED", "EMBEDDED_JWT_SCOPE_DRIFT", "AGENT_OUT_OF_SCOPE"} {
		refused = append(refused, fault.Rule{Endpoint: "rpc", Status: 200, Body: `{"jsonrpc":"2.0","error":{"code":-32000,"message":"m","data":{"code":"` + code + `"}}}`})
	}
	for _, rule := range refused {
		w.spy.forget()
		rule.Times = 1
		w.fault(rule)
		if _, _, err := c.Tasks(within(t), client.TaskFilter{}); err != nil {
			t.Errorf("%s: %v", rule.Body, err)
		}
		calls := w.spy.rpc("ListTasks")
		if len(calls) != 2 || calls[0].body != calls[1].body || calls[0].bearer() == calls[1].bearer() || len(w.spy.find("/api/v1/auth/agent/refresh", "")) != 1 {
			t.Errorf("%s: %d calls", rule.Body, len(calls))
		}

		w.spy.forget()
		rule.Times = 2
		w.fault(rule)
		_, _, err := c.Tasks(within(t), client.TaskFilter{})
		rpc, ok := errors.AsType[*client.RPCError](err)
		if !ok || rule.Status == 401 && rpc.Code != 401 || rule.Status == 200 && (rpc.Code != -32000 || !strings.Contains(rule.Body, rpc.AppCode)) {
			t.Errorf("%s twice: %v", rule.Body, err)
		}
		if n := len(w.spy.rpc("ListTasks")); n != 2 {
			t.Errorf("%s twice: %d calls", rule.Body, n)
		}
	}
	// The renewal fails, too: the error says both.
	w.fault(fault.Rule{Endpoint: "rpc", Status: http.StatusUnauthorized})
	w.fault(fault.Rule{Endpoint: "refresh", Status: http.StatusForbidden})
	_, _, err := c.Tasks(within(t), client.TaskFilter{})
	rpc, isRPC := errors.AsType[*client.RPCError](err)
	if _, ok := errors.AsType[*client.AuthRefreshFailedError](err); !ok || !isRPC || rpc.Code != http.StatusUnauthorized {
		t.Errorf("%v", err)
	}
}

// C12: many callers whose token is refused share one renewal.
func TestOneRenewalForAll(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	w.sb.ExpireTokens(false)
	const callers = 50
	var all sync.WaitGroup
	// Nobody gets an answer before all have asked, so all meet the old token.
	var asked atomic.Int32
	ready := make(chan struct{})
	w.front(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/rpc") {
			if asked.Add(1) == callers {
				close(ready)
			}
			<-ready
		}
		return false
	})
	for range callers {
		all.Go(func() {
			if _, _, err := c.Tasks(within(t), client.TaskFilter{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(w.spy.find("/api/v1/auth/agent/refresh", "")); n != 1 {
		t.Errorf("%d renewals", n)
	}
	if n := len(w.spy.rpc("ListTasks")); n != 2*callers {
		t.Errorf("%d calls", n)
	}
}

// C13: nothing runs after Close; a task can still be canceled with the last token.
func TestClosedClient(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		w.provide("echo", client.Free, func(j *job) {
			<-j.canceled
			j.end(client.Canceled)
		})
		c := w.client()
		s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
		c.Close()
		c.Close()
		if err := s.Cancel(t.Context()); err != nil {
			t.Errorf("cancel: %v", err)
		}
		if _, err := s.Wait(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("wait: %v", err)
		}
		if _, err := c.Send(t.Context(), client.Message{Agent: "echo", Parts: text("x")}); !errors.Is(err, client.ErrClosed) || !strings.Contains(err.Error(), "the client is closed") {
			t.Errorf("send: %v", err)
		}
		w.spy.forget()
		time.Sleep(10 * time.Minute)
		if n := len(w.spy.find("/", "")); n != 0 {
			t.Errorf("%d requests after Close", n)
		}
		// The token is expired by now, and is not renewed any more.
		err := s.Cancel(t.Context())
		if rpc, ok := errors.AsType[*client.RPCError](err); !ok || rpc.Code != 401 || len(w.spy.find("/api/v1/auth", "")) != 0 {
			t.Errorf("cancel: %v", err)
		}
	})
}
