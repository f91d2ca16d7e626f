package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/wire"
)

// Upload is a file to bring into the network's storage. An upload has three steps: the API names a target, the bytes go
// there, and the API is asked to confirm that they have arrived.
type Upload struct {
	// TaskID and OutputID say what an output belongs to; OutputID may be empty.
	TaskID, OutputID string
	// AgentName and PartID say what an input is for; SessionID, from the first file of a message, replaces AgentName for
	// the further ones.
	AgentName, PartID, SessionID string
	FileName                     string // default "attachment"
	MIMEType                     string // default application/octet-stream
	Size                         int64  // exact
	// Open returns the bytes from their beginning. It is called again for a retry.
	Open func() (io.ReadCloser, error)
	// Published is asked, for an output, after the answer to the last step was lost: whether the artifact event stands on
	// the task's channel. Without it the step is simply repeated, and whether the network then publishes a second event
	// is not known. May be nil.
	Published func(ctx context.Context) (wire.ArtifactRef, bool)
	// Again is asked, for an output, before each further attempt at a step that failed for the moment; an error ends the
	// upload. With it a step is tried for as long as ctx lasts, without it, nil, a few times.
	Again func(ctx context.Context) error
}

func (u Upload) name() string {
	if u.FileName == "" {
		return "attachment"
	}
	return u.FileName
}

func (u Upload) mimeType() string {
	if u.MIMEType == "" {
		return wire.DefaultMIMEType
	}
	return u.MIMEType
}

// authorized sends a request with a credential; both kinds of session have one.
type authorized func(ctx context.Context, a apiCall) ([]byte, error)

// UploadOutput uploads an output of a task. The network publishes the artifact event before this returns.
func (s *AgentSession) UploadOutput(ctx context.Context, u Upload) (wire.ArtifactRef, error) {
	call := authorized(s.call)
	var target uploadTarget
	for n := 1; ; n++ {
		var err error
		target, err = s.client.requestUpload(ctx, call, u, uploadParams{Role: "provider-output", TaskID: u.TaskID, OutputID: u.OutputID})
		if err == nil {
			break
		}
		if u.Again == nil { // it was tried a few times
			return wire.ArtifactRef{}, err
		}
		if err := s.client.again(ctx, u, n, err); err != nil {
			return wire.ArtifactRef{}, err
		}
	}
	if err := s.client.transfer(ctx, u, target); err != nil {
		return wire.ArtifactRef{}, err
	}
	ref, err := s.client.confirm(ctx, call, u, target.uploadID)
	if err != nil {
		return wire.ArtifactRef{}, err
	}
	if ref == nil {
		return wire.ArtifactRef{}, &Error{Op: "confirm the upload of", Object: u.name(), Status: http.StatusOK, Message: "the answer has no artifactRef"}
	}
	return *ref, nil
}

// UploadInput uploads a file for a part of a message and returns the upload session to send the message with.
func (s *Consumer) UploadInput(ctx context.Context, u Upload) (uploadSessionID string, err error) {
	call := authorized(func(ctx context.Context, a apiCall) ([]byte, error) { return s.call(ctx, a, nil) })
	p := uploadParams{Role: "consumer-input", PartID: u.PartID, UploadSessionID: u.SessionID}
	if u.SessionID == "" {
		p.AgentName = u.AgentName
	}
	target, err := s.client.requestUpload(ctx, call, u, p)
	if err != nil {
		return "", err
	}
	if err := s.client.transfer(ctx, u, target); err != nil {
		return "", err
	}
	u.Published = nil
	if _, err := s.client.confirm(ctx, call, u, target.uploadID); err != nil {
		return "", err
	}
	if target.sessionID != "" {
		return target.sessionID, nil
	}
	return u.SessionID, nil
}

// again waits before a further attempt after the n-th has failed. It returns why there is none.
func (c *Client) again(ctx context.Context, u Upload, n int, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || !e.Temporary() || u.Again == nil && n >= maxAttempts || ctx.Err() != nil {
		return err
	}
	c.log.Debug("upload failed, trying again", "attempt", n, "err", err)
	if retry.Pause(ctx, retryBackoff.Delay(n)) != nil {
		return err
	}
	if u.Again != nil {
		return u.Again(ctx)
	}
	return nil
}

type uploadParams struct {
	Role            string `json:"role"`
	FileName        string `json:"fileName"`
	FileSize        int64  `json:"fileSize"`
	MIMEType        string `json:"mimeType"`
	TaskID          string `json:"taskId,omitempty"`
	OutputID        string `json:"outputId,omitempty"`
	AgentName       string `json:"agentName,omitempty"`
	PartID          string `json:"partId,omitempty"`
	UploadSessionID string `json:"uploadSessionId,omitempty"`
}

// uploadTarget is where the bytes go. Its URL and fields are credentials.
type uploadTarget struct {
	uploadID, sessionID, url string
	fields                   []formField
}

type formField struct{ name, value string }

func (c *Client) requestUpload(ctx context.Context, call authorized, u Upload, p uploadParams) (uploadTarget, error) {
	p.FileName, p.FileSize, p.MIMEType = u.name(), u.Size, u.mimeType()
	a := apiCall{op: "request an upload for", object: u.name(), method: http.MethodPost, path: "/api/v1/files/request-upload", body: p}
	body, err := call(ctx, a)
	if err != nil {
		return uploadTarget{}, err
	}
	return decodeUploadPlace(a, body)
}

func decodeUploadPlace(a apiCall, body []byte) (uploadTarget, error) {
	var o struct {
		Error                     json.RawMessage
		UploadID, UploadSessionID string
		UploadURL                 string
		FormFields                []struct{ Key, Name, Value string }
	}
	if err := decode(a, body, &o); err != nil {
		return uploadTarget{}, err
	}
	fail := func(text string) (uploadTarget, error) {
		return uploadTarget{}, &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: text}
	}
	if truthy(o.Error) {
		return fail("the answer holds an error")
	}
	if v, err := url.Parse(o.UploadURL); o.UploadID == "" || err != nil || (v.Scheme != "http" && v.Scheme != "https") || v.Host == "" {
		return fail("the answer has no uploadId or no usable uploadUrl")
	}
	p := uploadTarget{uploadID: o.UploadID, sessionID: o.UploadSessionID, url: o.UploadURL}
	for _, f := range o.FormFields {
		if f.Key == "" {
			f.Key = f.Name
		}
		p.fields = append(p.fields, formField{f.Key, f.Value})
	}
	return p, nil
}

// truthy is what other clients of the API mean by an error member that is set.
func truthy(raw json.RawMessage) bool {
	switch string(bytes.TrimSpace(raw)) {
	case "", "null", "false", "0", `""`:
		return false
	}
	return true
}

// confirm asks the API to confirm that the bytes have arrived. A lost answer may hide a success.
func (c *Client) confirm(ctx context.Context, call authorized, u Upload, uploadID string) (*wire.ArtifactRef, error) {
	a := apiCall{
		op: "confirm the upload of", object: u.name(), method: http.MethodPost, path: "/api/v1/files/confirm-upload", once: true,
		body: struct {
			UploadID string `json:"uploadId"`
		}{uploadID},
	}
	for n := 1; ; n++ {
		body, err := call(ctx, a)
		if err == nil {
			return decodeConfirmed(a, body)
		}
		e, ok := errors.AsType[*Error](err)
		if ok && n > 1 && !e.Temporary() && u.Published != nil {
			// The repetition was refused, perhaps because the first one had succeeded after all.
			if ref, found := u.Published(ctx); found {
				return &ref, nil
			}
		}
		if err := c.again(ctx, u, n, err); err != nil {
			return nil, err
		}
		if u.Published != nil {
			if ref, found := u.Published(ctx); found {
				return &ref, nil
			}
		}
	}
}

func decodeConfirmed(a apiCall, body []byte) (*wire.ArtifactRef, error) {
	var o struct {
		Error       json.RawMessage
		ArtifactRef *wire.ArtifactRef
	}
	if err := decode(a, body, &o); err != nil {
		return nil, err
	}
	if truthy(o.Error) {
		return nil, &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the answer holds an error"}
	}
	return o.ArtifactRef, nil
}

// transfer sends the bytes to the storage, again from the beginning after transient faults.
func (c *Client) transfer(ctx context.Context, u Upload, target uploadTarget) error {
	for n := 1; ; n++ {
		err := c.transferOnce(ctx, u, target)
		if err == nil {
			return nil
		}
		if err := c.again(ctx, u, n, err); err != nil {
			return err
		}
	}
}

func (c *Client) transferOnce(ctx context.Context, u Upload, target uploadTarget) error {
	file, err := u.Open()
	if err != nil {
		return fmt.Errorf("upload %s: %w", u.name(), err)
	}
	defer file.Close()
	form, err := newForm(target.fields, u.name(), u.mimeType())
	if err != nil {
		return fmt.Errorf("upload %s: %w", u.name(), err)
	}
	ctx, w := newStallWatch(ctx, transferStall)
	defer w.stop()
	body := io.MultiReader(bytes.NewReader(form.head), &watchedReader{r: file, watch: w}, bytes.NewReader(form.tail))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.url, io.NopCloser(body))
	if err != nil {
		return fmt.Errorf("upload %s: the network named a target that is not a URL", u.name())
	}
	// Storage wants to know the length in advance; a file of another size than announced fails here.
	req.ContentLength = int64(len(form.head)) + u.Size + int64(len(form.tail))
	req.Header.Set("Content-Type", form.contentType)
	resp, err := c.http.Do(req)
	if err != nil {
		return &Error{Op: "upload", Object: u.name(), err: hideURL(err)}
	}
	defer resp.Body.Close()
	_, _ = readBounded(resp.Body, maxAnswer) // to reuse the connection; what it says is not for our users
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return &Error{Op: "upload", Object: u.name(), Status: resp.StatusCode, Message: "the storage did not take the file"}
	}
	return nil
}
