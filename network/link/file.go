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

// File is a stored file.
type File struct{ Channel, ID, Name string }

// OpenFile starts the download of a stored file and returns its bytes and their number, -1 if the network does not say.
// The caller closes the reader. A download that stands still for Timeouts.Stall fails. The error is a *StatusError where
// the network refuses.
//
// It does not go through the SDK, which neither escapes file names nor takes a context.
func (l *Link) OpenFile(ctx context.Context, channel, fileID, fileName, token string) (io.ReadCloser, int64, error) {
	return l.openFile(ctx, File{channel, fileID, fileName}, 0, token)
}

// OpenFileAt is OpenFile for the bytes from an offset on.
func (l *Link) OpenFileAt(ctx context.Context, f File, offset int64, token string) (io.ReadCloser, error) {
	r, _, err := l.openFile(ctx, f, offset, token)
	return r, err
}

func (l *Link) openFile(ctx context.Context, f File, offset int64, token string) (io.ReadCloser, int64, error) {
	what := fmt.Sprintf("open file %q on channel %s", f.Name, f.Channel)
	if f.Channel == "" || f.ID == "" || f.Name == "" {
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
		r, err := l.requestFile(watched, f, offset, token)
		if err != nil {
			w.end()
			return err
		}
		resp, stop = r, w
		return nil
	})
	if err != nil {
		done()
		return nil, 0, fmt.Errorf("%s: %w", what, err)
	}
	stop.timer.Reset(l.cfg.Timeouts.Stall)
	d := &download{body: resp.Body, watch: stop, stall: l.cfg.Timeouts.Stall, done: done}
	if offset == 0 || resp.StatusCode == http.StatusPartialContent {
		return d, resp.ContentLength, nil
	}
	// The storage sends all of it again.
	if _, err := io.CopyN(io.Discard, d, offset); err != nil {
		d.Close()
		return nil, 0, fmt.Errorf("%s: go on at byte %d: %w", what, offset, err)
	}
	return d, max(resp.ContentLength-offset, -1), nil
}

// requestFile makes one request for a file and returns the answer if it holds the file.
func (l *Link) requestFile(ctx context.Context, f File, offset int64, token string) (*http.Response, error) {
	path := "/v1/files/" + url.PathEscape(l.cfg.Keys.SubscribeKey) + "/channels/" + url.PathEscape(f.Channel) +
		"/files/" + url.PathEscape(f.ID) + "/" + url.PathEscape(f.Name)
	req, err := l.newRequest(ctx, path, url.Values{}, token)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	r, err := l.direct.Do(req)
	if err != nil {
		return nil, redact(err)
	}
	if r.StatusCode == http.StatusOK || offset > 0 && r.StatusCode == http.StatusPartialContent {
		return r, nil
	}
	body, _ := readBounded(r, maxAnswer)
	r.Body.Close()
	return nil, &StatusError{Op: "opening a file", Channel: f.Channel, Status: r.StatusCode, Body: body}
}

// newRequest makes a GET for a path that is already escaped.
func (l *Link) newRequest(ctx context.Context, path string, q url.Values, token string) (*http.Request, error) {
	if !q.Has("uuid") {
		q.Set("uuid", l.cfg.UserID)
	}
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
func (l *Link) root() string { return root(l.cfg.Origin, l.cfg.Secure) }

func root(origin string, secure bool) string {
	if secure {
		return "https://" + origin
	}
	return "http://" + origin
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
