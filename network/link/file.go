package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxRedirects of a download. The network sends one, to its storage.
const maxRedirects = 5

// OpenFile starts the download of a stored file and returns its bytes and their number, -1 if the network does not say.
// The caller closes the reader. A download that stands still for Timeouts.Stall fails. The error is a *StatusError where
// the network refuses.
//
// It does not go through the SDK, which neither escapes file names nor takes a context.
func (l *Link) OpenFile(ctx context.Context, channel, fileID, fileName, token string) (io.ReadCloser, int64, error) {
	what := fmt.Sprintf("open file %q on channel %s", fileName, channel)
	if channel == "" || fileID == "" || fileName == "" {
		return nil, 0, fmt.Errorf("%s: channel, file id and file name are required", what)
	}
	ctx, done, err := l.enter(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", what, err)
	}
	if token == "" {
		token = l.currentToken()
	}
	var resp *http.Response
	var stop *watch
	err = l.retryRead(ctx, func() error {
		watched, w := newWatch(ctx, l.cfg.Timeouts.Request)
		path := "/v1/files/" + url.PathEscape(l.cfg.Keys.SubscribeKey) + "/channels/" + url.PathEscape(channel) +
			"/files/" + url.PathEscape(fileID) + "/" + url.PathEscape(fileName)
		req, err := l.newRequest(watched, path, url.Values{}, token)
		if err != nil {
			w.end()
			return err
		}
		r, err := l.direct.Do(req)
		if err != nil {
			w.end()
			return redact(err)
		}
		if r.StatusCode != http.StatusOK {
			body, _ := readBounded(r, maxAnswer)
			r.Body.Close()
			w.end()
			return &StatusError{Op: "opening a file", Channel: channel, Status: r.StatusCode, Body: body}
		}
		resp, stop = r, w
		return nil
	})
	if err != nil {
		done()
		return nil, 0, fmt.Errorf("%s: %w", what, err)
	}
	stop.timer.Reset(l.cfg.Timeouts.Stall)
	return &download{body: resp.Body, watch: stop, stall: l.cfg.Timeouts.Stall, done: done}, resp.ContentLength, nil
}

// newRequest makes a GET for a path that is already escaped.
func (l *Link) newRequest(ctx context.Context, path string, q url.Values, token string) (*http.Request, error) {
	q.Set("uuid", l.cfg.UserID)
	q.Set("pnsdk", sdkName)
	if token != "" {
		q.Set("auth", token)
	}
	query := strings.ReplaceAll(q.Encode(), "+", "%20") // as appendEscaped does
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.root()+path+"?"+query, nil)
	return req, redact(err)
}

// sdkName is how requests that we make ourselves say who we are.
const sdkName = "PubNub-Go/blocksd"

// root is the beginning of every URL.
func (l *Link) root() string {
	if l.cfg.Secure {
		return "https://" + l.cfg.Origin
	}
	return "http://" + l.cfg.Origin
}

// followWithoutReferer keeps the URL of the first request, which holds the token, from the storage that it leads to.
func followWithoutReferer(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("the network redirects too often")
	}
	req.Header.Del("Referer")
	return nil
}

var errStalled = errors.New("the transfer stood still for too long")

// watch ends a context when its timer fires.
type watch struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func newWatch(ctx context.Context, d time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watch{time.AfterFunc(d, func() { cancel(errStalled) }), cancel}
}

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// progress is the body of an answer that may not stand still.
type progress struct {
	io.ReadCloser
	watch *watch
	stall time.Duration
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if n > 0 {
		p.watch.timer.Reset(p.stall)
	}
	return n, err
}

// download is the body of a file. Only one goroutine may read it.
type download struct {
	body  io.ReadCloser
	watch *watch
	stall time.Duration
	done  func()
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	d.watch.timer.Reset(d.stall)
	return n, err
}

func (d *download) Close() error {
	d.watch.end()
	err := d.body.Close()
	d.done()
	return err
}
