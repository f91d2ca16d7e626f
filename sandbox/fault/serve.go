package fault

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
)

// Wrap returns a handler that applies the rules to the requests for next.
func (j *Injector) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subscribe := strings.HasPrefix(r.URL.Path, "/v2/subscribe/")
		if !subscribe && !j.armed.Load() {
			next.ServeHTTP(w, r)
			return
		}
		j.serve(w, r, next, subscribe)
	})
}

func (j *Injector) serve(w http.ResponseWriter, r *http.Request, next http.Handler, subscribe bool) {
	var f *facts
	var rule *active
	newest := 0
	if subscribe {
		newest = j.newest()
	}
	if j.armed.Load() {
		f = j.look(r)
		rule = j.pick(f)
		if entry := j.record(f, rule); entry != nil {
			sw := &statusWriter{ResponseWriter: w}
			w = sw
			defer func() { j.answered(entry, sw.status) }()
		}
	}
	if subscribe {
		ctx, end := context.WithCancel(r.Context())
		defer end()
		r = r.WithContext(ctx)
		p := &poll{facts: sync.OnceValue(func() *facts { return j.look(r) }), end: end}
		if f != nil {
			f.r = r
			p.facts = func() *facts { return f }
		}
		if rule != nil {
			newest = max(newest, rule.number)
		}
		j.hold(p, newest)
		defer func() {
			j.mu.Lock()
			delete(j.held, p)
			cut := p.cut
			j.mu.Unlock()
			if cut {
				panic(http.ErrAbortHandler) // closes the connection
			}
		}()
		mw := &messageWriter{ResponseWriter: w, injector: j, facts: p.facts}
		defer mw.finish()
		w = mw
	}
	if rule == nil {
		next.ServeHTTP(w, r)
		return
	}
	j.apply(rule, w, r, next, f)
}

// apply does what a rule says.
func (j *Injector) apply(a *active, w http.ResponseWriter, r *http.Request, next http.Handler, f *facts) {
	if !wait(r.Context(), time.Duration(a.Delay)) {
		panic(http.ErrAbortHandler)
	}
	switch a.Action {
	case Status:
		h := w.Header()
		h.Set("Content-Type", a.ContentType)
		for name, v := range a.Headers {
			h.Set(name, v)
		}
		h.Set("Content-Length", strconv.Itoa(len(a.Body)))
		_ = wait(r.Context(), time.Duration(a.DelayAnswer))
		w.WriteHeader(a.Status)
		_, _ = w.Write([]byte(a.Body)) // the client may have disconnected
		return
	case Drop:
		panic(http.ErrAbortHandler)
	case Hang:
		j.mu.Lock()
		closed := j.closed
		j.mu.Unlock()
		if !closed {
			select {
			case <-a.removed:
			case <-r.Context().Done():
			}
		}
		panic(http.ErrAbortHandler)
	case Gap:
		body := `[1,"Sent","` + strconv.FormatInt(time.Now().UnixNano()/100, 10) + `"]`
		w.Header().Set("Content-Type", `text/javascript; charset="UTF-8"`)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(body))
		return
	case Duplicate:
		f.content()
		next.ServeHTTP(newBuffer(), again(r, f))
		next.ServeHTTP(w, again(r, f))
		return
	}
	if a.Action == None && a.DelayAnswer == 0 {
		next.ServeHTTP(w, r)
		return
	}
	b := newBuffer()
	next.ServeHTTP(b, r)
	if !wait(r.Context(), time.Duration(a.DelayAnswer)) || a.Action == Lose {
		panic(http.ErrAbortHandler)
	}
	b.send(w, a.Action == Cut, a.CutAfter)
}

// wait returns false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	return retry.Pause(ctx, d) == nil
}
