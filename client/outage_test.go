package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// The network may be gone for a while, in the middle of a task: nothing is lost and nothing comes twice, however long it
// was and whatever happened meanwhile.
func TestOutages(t *testing.T) {
	for _, outage := range []time.Duration{25 * time.Second, 10 * time.Minute, 2 * time.Hour} {
		for _, meanwhile := range []int{0, 5, 150} { // more than the network keeps for subscribers
			if outage > time.Hour && meanwhile != 5 {
				continue // all that time has to be played
			}
			t.Run(fmt.Sprintf("%v, %d events", outage, meanwhile), func(t *testing.T) {
				virtually(t, func(t *testing.T, w *world) {
					before, during := make(chan struct{}), make(chan struct{})
					w.provide("echo", client.Free, func(j *job) {
						j.statuses(0, 3)
						j.await(before)
						j.statuses(3, meanwhile)
						j.await(during)
						j.statuses(3+meanwhile, 2)
						j.end(client.Completed)
					})
					s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
					told := make(chan []string)
					go func() {
						var out []string
						for e, err := range s.Events(t.Context()) {
							if err != nil {
								t.Error(err)
							}
							out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s%s", e.Type, e.Message, e.State)))
						}
						told <- out
					}()
					time.Sleep(time.Second)
					down := true
					var mu sync.Mutex
					w.front(func(_ http.ResponseWriter, r *http.Request) bool {
						mu.Lock()
						defer mu.Unlock()
						if down && !strings.HasPrefix(r.URL.Path, "/api/") {
							panic(http.ErrAbortHandler)
						}
						return false
					})
					held := w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Action: fault.Drop, Held: true, Times: 1})
					time.Sleep(time.Second)
					w.sb.Faults().Remove(held)
					close(before)
					time.Sleep(outage)
					mu.Lock()
					down = false
					mu.Unlock()
					time.Sleep(time.Minute)
					close(during)
					if d := cmp.Diff(whole(numbers(0, 5+meanwhile)...), <-told); d != "" {
						t.Error(d)
					}
				})
			})
		}
	}
}

// The end of a task comes while the network is gone, and no longer than the connection needs to come back after it.
func TestEndDuringAnOutage(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		end := make(chan struct{})
		w.provide("echo", client.Free, func(j *job) { j.await(end); done(j) })
		s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		ended := make(chan error)
		go func() {
			_, err := s.Wait(t.Context())
			ended <- err
		}()
		time.Sleep(time.Second)
		var down atomic.Bool
		down.Store(true)
		w.front(func(http.ResponseWriter, *http.Request) bool {
			if down.Load() {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Action: fault.Drop, Held: true, Times: 1})
		time.Sleep(time.Second)
		close(end)
		time.Sleep(30 * time.Minute) // longer than the network keeps a message for subscribers
		down.Store(false)
		start := time.Now()
		if err := <-ended; err != nil || time.Since(start) > 20*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A read token expires, or is revoked: the session gets another one and goes on.
func TestTokenOfASessionEnds(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		goOn := make(chan struct{})
		w.provide("echo", client.Free, func(j *job) {
			for i := range 4 {
				j.statuses(i, 1)
				j.await(goOn)
			}
			done(j)
		})
		s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		step := 0
		var got []string
		for e, err := range s.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s%s", e.Type, e.Message, e.State)))
			if e.Message == "" {
				continue
			}
			switch step++; step {
			case 1, 2: // revoked in the middle of a poll
				time.Sleep(time.Second)
				polls := w.spy.find("/v2/subscribe", "")
				if err := w.sb.RevokeToken(polls[len(polls)-1].URL.Query().Get("auth")); err != nil {
					t.Fatal(err)
				}
			case 3: // a life later
				time.Sleep(3 * time.Hour)
			}
			select {
			case goOn <- struct{}{}:
			case <-within(t).Done():
				t.Fatal("the provider does not go on")
			}
		}
		if d := cmp.Diff(whole(numbers(0, 4)...), got); d != "" {
			t.Error(d)
		}
		if n := len(w.spy.find("/api/v1/auth/task-read-token", "")); n < 2 {
			t.Errorf("%d new tokens", n)
		}
	})
}

// The API is gone while the read token is refused: the session waits and goes on. A final refusal ends it with the reason.
func TestTokenCannotBeRenewed(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		end := make(chan struct{})
		w.provide("echo", client.Free, func(j *job) { j.await(end); done(j) })
		c := w.client()
		s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
		ended := make(chan error)
		wait := func(s *client.Session) {
			_, err := s.Wait(t.Context())
			ended <- err
		}
		go wait(s)
		time.Sleep(time.Second)
		api, err := w.sb.Faults().Outage(fault.SideBlocks)
		if err != nil {
			t.Fatal(err)
		}
		refused := w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 403, Held: true})
		time.Sleep(5 * time.Minute)
		select {
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		default:
		}
		w.sb.Faults().Remove(api)
		w.sb.Faults().Remove(refused)
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}

		w.provide("slow", client.Free, untilCanceled)
		s = w.send(c, client.Message{Agent: "slow", Parts: text("x")})
		go wait(s)
		time.Sleep(time.Second)
		w.fault(fault.Rule{Path: "/api/v1/auth/task-read-token", Status: 403, Body: `{"code":"PermissionDenied","error":"not yours any more"}`})
		w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 403, Held: true})
		err = <-ended
		if !isA[*client.PermissionDeniedError](err) || !strings.Contains(err.Error(), "not yours any more") || !strings.Contains(err.Error(), s.TaskID()) {
			t.Errorf("%v", err)
		}
		w.sb.Faults().Clear()
		if err := s.Cancel(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := s.Wait(t.Context()); err != nil { // a new call tries again
			t.Error(err)
		}
	})
}

// The token of a session is refused when the client's own has expired and cannot be renewed for the moment.
func TestBothTokensEnd(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		end := make(chan struct{})
		w.provide("echo", client.Free, func(j *job) { j.await(end); done(j) })
		s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		ended := make(chan error)
		go func() {
			_, err := s.Wait(t.Context())
			ended <- err
		}()
		time.Sleep(time.Second)
		w.sb.ExpireTokens(false)
		w.fault(fault.Rule{Endpoint: "refresh", Action: fault.Drop})
		w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 403, Held: true, Times: 2})
		time.Sleep(5 * time.Minute)
		w.sb.Faults().Clear()
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What answers is not PubNub, or does not know the channel: the session ends and says so, and does not try for ever.
func TestAnswersThatMakeNoSense(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		w.provide("echo", client.Free, untilCanceled)
		s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 404, Held: true})
		if _, err := s.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "status 404") {
			t.Errorf("%v", err)
		}
	})
}

// C33: the network refuses for good.
func TestFinalRefusals(t *testing.T) {
	w := newWorld(t, func(*sandbox.Config) {})
	w.provide("echo", client.Free, untilCanceled)
	c := w.client()
	s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
	w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 403, Held: true})
	_, err := s.Wait(within(t))
	if err == nil || !strings.Contains(err.Error(), "refuses to show the task") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
