package pubnub

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil"
)

// slowUpload is a form with a file that a test sends bit by bit.
type slowUpload struct {
	form   *multipart.Writer
	file   io.Writer
	body   *io.PipeWriter
	status chan int // 0: no answer
}

// beginUpload returns when the server has begun to read the form.
func beginUpload(t *testing.T, server *httptest.Server, address string) slowUpload {
	t.Helper()
	reader, writer := io.Pipe()
	u := slowUpload{form: multipart.NewWriter(writer), body: writer, status: make(chan int, 1)}
	reading := make(chan struct{})
	// The server asks for the body when it begins to read it.
	trace := &httptrace.ClientTrace{Got100Continue: func() { close(reading) }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", server.URL+address, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", u.form.FormDataContentType())
	req.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	go func() {
		defer transport.CloseIdleConnections()
		res, err := transport.RoundTrip(req)
		if err != nil {
			u.status <- 0
			return
		}
		res.Body.Close()
		u.status <- res.StatusCode
	}()
	select {
	case <-reading:
	case status := <-u.status:
		t.Fatalf("upload: %d", status)
	}
	if u.file, err = u.form.CreateFormFile("file", "f.txt"); err != nil {
		t.Fatal(err)
	}
	return u
}

// TestOneUploadPerFile: of two uploads of one announced file exactly one wins, and what is stored is all its own. After
// one that was cut short another one can follow.
func TestOneUploadPerFile(t *testing.T) {
	server, _, _ := face(t, 0)
	announce := func() (address, id string) {
		r := fetch(t, server, "POST", "/v1/files/sub-open/channels/c/generate-upload-url", `{"name":"f.txt"}`)
		return regexp.MustCompile(`/_upload/[^"]+`).FindString(r.body), regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(r.body)[1]
	}
	other := func(address string) reply {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		part, _ := w.CreateFormFile("file", "f.txt")
		_, _ = io.WriteString(part, "bb")
		w.Close()
		return fetch(t, server, "POST", address, form.String(), "Content-Type", w.FormDataContentType())
	}
	const busy = `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>OperationAborted</Code><Message>A conflicting conditional operation is currently in progress against this resource. Please try again.</Message></Error>"

	address, id := announce()
	first := beginUpload(t, server, address)
	if got := other(address); got.status != 409 || got.body != busy {
		t.Errorf("second upload: %d %s", got.status, got.body)
	}
	_, _ = io.WriteString(first.file, "aaaa")
	first.form.Close()
	first.body.Close()
	if status := <-first.status; status != 204 {
		t.Fatalf("first upload: %d", status)
	}
	if got := other(address); got.status != 403 {
		t.Errorf("upload after the end: %d %s", got.status, got.body)
	}

	second, secondID := announce()
	cut := beginUpload(t, server, second)
	cut.body.CloseWithError(errors.New("the connection is gone"))
	if status := <-cut.status; status == 204 {
		t.Error("an upload that was cut short has succeeded")
	}
	var got reply
	testutil.Eventually(t, 3*time.Minute, "the server notices that the upload was cut short", func() bool {
		got = other(second)
		return got.status != 409
	})
	if got.status != 204 {
		t.Errorf("upload after one that was cut short: %d %s", got.status, got.body)
	}

	listed := fetch(t, server, "GET", "/v1/files/sub-open/channels/c/files", "").body
	for id, size := range map[string]string{id: "4", secondID: "2"} {
		if !strings.Contains(listed, `"id":"`+id+`","size":`+size+`,`) {
			t.Errorf("listed: %s", listed)
		}
	}
	for address, want := range map[string]string{address: "aaaa", second: "bb"} {
		if got := fetch(t, server, "GET", strings.Replace(address, "_upload", "_files", 1)+"/f.txt", ""); got.body != want {
			t.Errorf("stored %q, want %q", got.body, want)
		}
	}
}
