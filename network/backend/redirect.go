package backend

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// withoutRedirects returns hc, but for redirects: an API request carries a key, a token or a task, and whoever answers it
// with a redirect must not be able to have them sent elsewhere.
func withoutRedirects(hc *http.Client) *http.Client {
	strict := *hc
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &strict
}

// redirectMessage says where an answer wanted to send the request; "" for any other answer.
func redirectMessage(resp *http.Response) string {
	if resp.StatusCode/100 != 3 {
		return ""
	}
	to := "elsewhere"
	if u, err := url.Parse(resp.Header.Get("Location")); err == nil && u.Host != "" {
		to = "to " + u.Scheme + "://" + u.Host
	}
	return fmt.Sprintf("the answer is a redirect %s, which no request with credentials follows: check BLOCKS_BACKEND_URL and the deployment document", to)
}

// maxDocumentRedirects bounds where the deployment document, a public file, may be moved to.
const maxDocumentRedirects = 5

// documentRedirects returns hc with redirects as the deployment document may take them: a few, and never from https to
// http, where anybody on the way could replace the document.
func documentRedirects(hc *http.Client) *http.Client {
	careful := *hc
	careful.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > maxDocumentRedirects {
			return fmt.Errorf("more than %d redirects", maxDocumentRedirects)
		}
		if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return errors.New("a redirect from https to http")
		}
		return nil
	}
	return &careful
}
