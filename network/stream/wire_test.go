package stream_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
)

func (f *faultyWire) set(publish, subscribe hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onPublish, f.onSubscribe = publish, subscribe
}

// record keeps what is published from now on.
func (f *faultyWire) record() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep = true
}

func (f *faultyWire) RoundTrip(r *http.Request) (*http.Response, error) {
	publish, subscribe := strings.HasPrefix(r.URL.Path, "/publish/"), strings.HasPrefix(r.URL.Path, "/v2/subscribe/")
	f.mu.Lock()
	var h hook
	switch {
	case publish:
		h = f.onPublish
		f.now++
		f.most = max(f.most, f.now)
	case subscribe:
		h = f.onSubscribe
	}
	keep := f.keep && publish
	f.mu.Unlock()
	if publish {
		defer func() {
			f.mu.Lock()
			f.now--
			f.mu.Unlock()
		}()
	}
	if h == nil && !keep {
		return f.next.RoundTrip(r)
	}
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	pass := func() (*http.Response, error) {
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := f.next.RoundTrip(again)
		if keep && err == nil && resp.StatusCode == http.StatusOK {
			f.mu.Lock()
			f.published = append(f.published, onWire{string(body), r.URL.Query().Get("meta"), r.URL.Query().Get("uuid")})
			f.mu.Unlock()
		}
		return resp, err
	}
	if h == nil {
		return pass()
	}
	return h(r, body, pass)
}

func answer(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

var errReset = errors.New("connection reset by peer")

// inProcess serves requests without a network, for tests with a clock of their own.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if t := httptrace.ContextClientTrace(r.Context()); t != nil && t.WroteHeaders != nil {
		t.WroteHeaders()
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		rec := httptest.NewRecorder()
		p.handler.ServeHTTP(rec, in)
		done <- rec
	}()
	rec := <-done // the handler ends with the request's context
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return rec.Result(), nil
}
