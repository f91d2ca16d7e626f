package sandbox

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	pubnub "github.com/pubnub/go/v7"

	"github.com/blocksd/blocksd/network/wire"
)

// sdk returns PubNub's own client for a keyset, unmodified.
func (b *bed) sdk(keys wire.Keyset, uuid, token string) *pubnub.PubNub {
	b.t.Helper()
	cfg := pubnub.NewConfigWithUserId(pubnub.UserId(uuid))
	cfg.Origin, cfg.Secure = b.Addr(), false
	cfg.PublishKey, cfg.SubscribeKey = keys.PublishKey, keys.SubscribeKey
	cfg.MaxWorkers = 0
	pn := pubnub.NewPubNub(cfg)
	pn.SetClient(b.http)
	pn.SetSubscribeClient(b.http)
	if token != "" {
		pn.SetToken(token)
	}
	b.t.Cleanup(pn.Destroy)
	return pn
}

func TestSDKPublishesAndReads(t *testing.T) {
	b := start(t, nil)
	pn := b.sdk(b.keys.Open, "user one/ü", "")
	message := map[string]any{"text": "a // b & <c> %2F 😀", "n": 1}
	var first int64
	for _, post := range []bool{false, true} {
		res, _, err := pn.Publish().Channel("ch 1/ü,x").Message(message).UsePost(post).Meta(map[string]any{"k": "v w"}).ShouldStore(true).Execute()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = res.Timestamp
		}
	}
	history, _, err := pn.Fetch().Channels([]string{"plain"}).Count(10).Execute()
	if err != nil || len(history.Messages) != 0 {
		t.Errorf("empty history: %v %v", history, err)
	}
	for range 3 {
		if _, _, err := pn.Publish().Channel("plain").Message(message).Execute(); err != nil {
			t.Fatal(err)
		}
	}
	history, _, err = pn.Fetch().Channels([]string{"plain"}).Count(2).IncludeMeta(true).IncludeUUID(true).IncludeMessageType(true).Execute()
	if err != nil {
		t.Fatal(err)
	}
	if got := history.Messages["plain"]; len(got) != 2 || got[1].UUID != "user one/ü" || got[1].Message.(map[string]any)["text"] != message["text"] {
		t.Errorf("history: %+v", got)
	}
	if _, _, err := pn.Time().Execute(); err != nil {
		t.Error(err)
	}
	if _, _, err := pn.Signal().Channel("plain").Message("s").Execute(); err != nil {
		t.Error(err)
	}
	if _, _, err := pn.Publish().Channel("plain").Message(strings.Repeat("x", 33000)).UsePost(true).Execute(); err == nil {
		t.Error("too large a message was taken")
	}
}

func TestSDKPresence(t *testing.T) {
	b := start(t, nil)
	pn := b.sdk(b.keys.Open, "u1", "")
	if _, _, err := pn.SetState().Channels([]string{"room"}).State(map[string]any{"mood": "ok"}).Execute(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pn.Heartbeat().Channels([]string{"room"}).Execute(); err != nil {
		t.Fatal(err)
	}
	state, _, err := pn.GetState().Channels([]string{"room"}).Execute()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := state.State["room"].(map[string]any); got["mood"] != "ok" {
		t.Errorf("state: %+v", state)
	}
	for _, channels := range [][]string{{"room"}, {"room", "other"}, nil} {
		here, _, err := pn.HereNow().Channels(channels).IncludeUUIDs(true).IncludeState(true).Execute()
		if err != nil {
			t.Fatal(err)
		}
		if here.TotalOccupancy != 1 || len(here.Channels) == 0 || here.Channels[0].Occupants[0].UUID != "u1" {
			t.Errorf("here now of %v: %+v", channels, here)
		}
	}
	where, _, err := pn.WhereNow().UUID("u1").Execute()
	if err != nil || len(where.Channels) != 1 {
		t.Errorf("where now: %+v %v", where, err)
	}
	if _, err := pn.Leave().Channels([]string{"room"}).Execute(); err != nil {
		t.Fatal(err)
	}
	here, _, err := pn.HereNow().Channels([]string{"room"}).IncludeUUIDs(true).Execute()
	if err != nil || here.TotalOccupancy != 0 {
		t.Errorf("here now after leave: %+v %v", here, err)
	}
}

func TestSDKSubscribes(t *testing.T) {
	b := start(t, nil)
	pn := b.sdk(b.keys.Open, "reader", "")
	listener := pubnub.NewListener()
	pn.AddListener(listener)
	pn.Subscribe().Channels([]string{"room", "more"}).Execute()
	select {
	case s := <-listener.Status:
		if s.Category != pubnub.PNConnectedCategory {
			t.Fatalf("status %v", s.Category)
		}
	case <-time.After(patience):
		t.Fatal("not connected")
	}
	writer := b.sdk(b.keys.Open, "writer", "")
	if _, _, err := writer.Publish().Channel("more").Message("hi").Meta(map[string]any{"k": "v"}).Execute(); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-listener.Message:
		if m.Message != "hi" || m.Channel != "more" || m.Publisher != "writer" || m.UserMetadata.(map[string]any)["k"] != "v" {
			t.Errorf("%+v", m)
		}
	case <-time.After(patience):
		t.Fatal("no message")
	}
	pn.UnsubscribeAll()
}

func TestSDKWithTokens(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 1, `{}`)
	w := b.work("echo", "AG-echo-1", 1)
	token := b.consumer(b.APIKey())
	s := b.send(token, "echo", "x", nil)
	start := w.next()
	channel := s.Extensions.Blocks.StreamChannels.Status
	provider := b.sdk(w.keys, w.id, start["writeToken"].(string))
	if _, _, err := provider.Publish().Channel(channel).Message(map[string]any{"type": "progress", "taskId": s.TaskID, "progress": 0, "state": "running"}).ShouldStore(true).UsePost(true).Execute(); err != nil {
		t.Fatal(err)
	}
	consumer := b.sdk(w.keys, "blocks-task-1", s.Extensions.Blocks.ReadToken)
	history, _, err := consumer.Fetch().Channels([]string{channel}).Count(100).Execute()
	if err != nil || len(history.Messages[channel]) != 2 {
		t.Errorf("history: %+v %v", history, err)
	}
	if _, status, err := consumer.Publish().Channel(channel).Message("x").Execute(); err == nil || status.StatusCode != 403 {
		t.Errorf("a read token published: %v %v", status, err)
	}
	if _, status, err := consumer.Fetch().Channels([]string{"u.org_1.other"}).Count(100).Execute(); err == nil || status.StatusCode != 403 {
		t.Errorf("a read token read another task: %v %v", status, err)
	}
	if history, _, err := provider.Fetch().Channels([]string{channel}).Count(100).Execute(); err != nil || len(history.Messages[channel]) != 2 {
		t.Errorf("a write token reads its own channel: %+v %v", history, err)
	}
}

func TestFilesTravelBothWays(t *testing.T) {
	b := start(t, nil)
	b.register("files", 1, `{}`)
	w := b.work("files", "AG-files-1", 1)
	token := b.consumer(b.APIKey())
	upload := func(bearer string, request object, content string) (session, id string) {
		var ticket struct{ UploadSessionID, UploadID, UploadURL string }
		b.call("POST", "/api/v1/files/request-upload", bearer, request, &ticket)
		const boundary = "------BlocksUploadBoundary"
		body := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nx\r\n--" + boundary +
			"\r\nContent-Disposition: form-data; name=\"file\"; filename=\"two ü.bin\"\r\nContent-Type: image/png\r\n\r\n" + content + "\r\n--" + boundary + "--\r\n"
		req, err := http.NewRequest("POST", ticket.UploadURL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
		res, err := b.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got, _ := io.ReadAll(res.Body); res.StatusCode != 204 || len(got) != 0 {
			t.Fatalf("upload: %d %s", res.StatusCode, got)
		}
		return ticket.UploadSessionID, ticket.UploadID
	}
	request := func(more object) object {
		r := object{"role": "consumer-input", "fileName": "two ü.bin", "fileSize": 5, "mimeType": "image/png", "partId": "request"}
		for k, v := range more {
			r[k] = v
		}
		return r
	}
	session, id := upload(token, request(object{"agentName": "files"}), "first")
	session2, id2 := upload(token, request(object{"uploadSessionId": session, "partId": "second"}), "other")
	if session2 != session {
		t.Errorf("second file in session %q, want %q", session2, session)
	}
	var confirmed map[string]any
	for _, id := range []string{id, id2} {
		b.call("POST", "/api/v1/files/confirm-upload", token, object{"uploadId": id}, &confirmed)
		if len(confirmed) != 1 || confirmed["uploadId"] != id {
			t.Errorf("confirmed: %v", confirmed)
		}
	}
	s := b.send(token, "files", "", object{"uploadSessionId": session, "requestParts": []object{{"partId": "request", "contentType": "image/png", "extra": 1}, {"partId": "second"}}})
	start := w.next()
	part := start["requestParts"].([]any)[0].(object)
	ref, _ := part["artifactRef"].(object)
	if part["extra"] != 1.0 || ref["kind"] != "file" || ref["fileName"] != "two ü.bin" || ref["size"] != 5.0 || ref["mimeType"] != "image/png" {
		t.Fatalf("part: %v", part)
	}
	download := func(token string, ref object) string {
		path := "/v1/files/" + w.keys.SubscribeKey + "/channels/" + ref["channel"].(string) + "/files/" + ref["fileId"].(string) + "/two%20%C3%BC.bin?auth=" + token
		status, body, header := b.do("GET", path, "", "")
		if status != 307 || body != "" {
			t.Fatalf("file: %d %s", status, body)
		}
		_, content, _ := b.do("GET", header.Get("Location"), "", "")
		return content
	}
	if got := download(start["writeToken"].(string), ref); got != "first" {
		t.Errorf("input %q", got)
	}
	_, out := upload(w.jwt, object{"role": "provider-output", "taskId": s.TaskID, "outputId": "reply", "fileName": "two ü.bin", "fileSize": 6, "mimeType": "text/plain"}, "output")
	var answer struct{ ArtifactRef object }
	b.call("POST", "/api/v1/files/confirm-upload", w.jwt, object{"uploadId": out}, &answer)
	if got := b.events(s); len(got) != 2 || got[1] != "artifact" {
		t.Errorf("events: %v", got)
	}
	if got := download(s.Extensions.Blocks.ReadToken, answer.ArtifactRef); got != "output" {
		t.Errorf("output %q", got)
	}
	if status, _, _ := b.do("POST", "/api/v1/files/request-upload", token, `{"role":"consumer-input","agentName":"files","partId":"p","fileName":"f","fileSize":2000000000}`); status != 413 {
		t.Errorf("announced 2 GB: %d", status)
	}
}
