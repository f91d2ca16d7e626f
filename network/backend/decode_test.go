package backend

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/wire"
)

func TestDecodeCDM(t *testing.T) {
	got, err := decodeCDM([]byte(`{"playground":{"publishKey":"a","subscribeKey":"b"},"network":{"publishKey":"c","subscribeKey":"d"},
		"api":{"baseUrl":"http://x:1//","clientId":"id"},"sandbox":{"pubnubOrigin":"x:2"},"more":[]}`))
	want := CDM{wire.Keyset{PublishKey: "a", SubscribeKey: "b"}, wire.Keyset{PublishKey: "c", SubscribeKey: "d"}, "http://x:1", "id", "x:2"}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if got.Keyset(wire.Paid) != want.Network || got.Keyset(wire.Free) != want.Playground {
		t.Error("keysets mixed up")
	}
	for _, bad := range []string{``, `[]`, `{"playground":{"publishKey":"a","subscribeKey":"b"}}`, `{"playground":{"publishKey":"a","subscribeKey":"b"},"network":{"publishKey":"c","subscribeKey":""}}`} {
		if _, err := decodeCDM([]byte(bad)); err == nil {
			t.Errorf("%s: taken", bad)
		}
	}
}

func TestDecodeRPC(t *testing.T) {
	tests := []struct {
		body, result string
		want         *RPCError
	}{
		{`{"result":{"a":1}}`, `{"a":1}`, nil},
		{`{"result":null,"error":null}`, `null`, nil},
		{``, ``, nil},
		{`{"error":{"code":-32000,"message":"outer","data":{"code":"InsufficientBalance","message":"inner","details":{"required":"0.10"}}}}`, ``,
			&RPCError{Code: -32000, AppCode: "InsufficientBalance", Message: "inner", Details: json.RawMessage(`{"required":"0.10"}`), Data: json.RawMessage(`{"code":"InsufficientBalance","message":"inner","details":{"required":"0.10"}}`)}},
		{`{"error":{"code":-32600,"message":"outer","data":"text"}}`, ``, &RPCError{Code: -32600, Message: "outer"}},
		{`{"error":"text"}`, ``, &RPCError{Message: "text"}},
	}
	for _, tt := range tests {
		result, refused, err := decodeRPC(apiCall{}, []byte(tt.body))
		if d := cmp.Diff(tt.want, refused); d != "" || err != nil || string(result) != tt.result {
			t.Errorf("%s: %s %s %v", tt.body, d, result, err)
		}
	}
}

func TestErrorsNameWhatFailedAndNoSecret(t *testing.T) {
	e := answerError(apiCall{op: "connect", object: "agent echo", bearer: "bk_secret"}, 403, []byte(`{"code":"AGENT_FORCED_OFFLINE","error":"taken offline"}`))
	if got, want := e.Error(), "connect agent echo: the network answered with status 403 (AGENT_FORCED_OFFLINE): taken offline: an administrator must enable the agent again"; got != want {
		t.Errorf("%s", got)
	}
	if !e.Final() || e.Temporary() {
		t.Error("forced offline is final")
	}
	for status, temporary := range map[int]bool{0: true, 408: true, 429: true, 500: true, 503: true, 400: false, 401: false, 404: false, 409: false} {
		if (&Error{Status: status}).Temporary() != temporary {
			t.Errorf("status %d: temporary is %v", status, !temporary)
		}
	}
}

func TestAffinity(t *testing.T) {
	var a affinity
	now := time.Unix(1000, 0)
	learn := func(v string) { a.learn(http.Header{affinityHeader: {v}}) }
	sent := func() string {
		h := http.Header{}
		a.apply(h, now)
		return h.Get(affinityHeader)
	}
	for _, v := range []string{"", "x", "NaN", "+Inf"} {
		learn(v)
	}
	if got := sent(); got != "" {
		t.Errorf("sends %q", got)
	}
	learn("1005.50")
	learn("1003")
	if got := sent(); got != "1005.50" {
		t.Errorf("sends %q", got)
	}
	now = time.Unix(1006, 0)
	if got := sent(); got != "" {
		t.Errorf("sends %q after the end", got)
	}
	learn("1004")
	if a.until != 1004 || math.IsInf(a.until, 0) {
		t.Error("what has expired still counts")
	}
}

func TestForm(t *testing.T) {
	f, err := newForm([]formField{{"key", "a/b"}, {`po"li` + "\r\n" + `cy`, "eyJ"}}, "a \"b\"\r\nX: y ü.bin", "text/plain\r\nX: y")
	if err != nil {
		t.Fatal(err)
	}
	content := "--not-a-boundary\r\nbytes"
	_, params, err := mime.ParseMediaType(f.contentType)
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(io.MultiReader(bytes.NewReader(f.head), strings.NewReader(content), bytes.NewReader(f.tail)), params["boundary"])
	var names []string
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(p)
		names = append(names, p.FormName()+"="+string(b))
		if len(p.Header) > 2 {
			t.Errorf("a name broke out of its header: %v", p.Header)
		}
	}
	if len(names) != 3 || names[0] != "key=a/b" || names[2] != "file="+content {
		t.Errorf("%q", names)
	}
	g, _ := newForm(nil, "x", "y")
	if g.contentType == f.contentType {
		t.Error("the boundary is not random")
	}
}

func FuzzDecoders(f *testing.F) {
	f.Add([]byte(`{"agent":{"agentName":"a","card":null,"billingMode":"free"}}`))
	f.Add([]byte(`{"accessToken":"a","refreshToken":"b","controlChannel":"c","expiresIn":60,"pamToken":"d"}`))
	f.Add([]byte(`{"taskId":"t","extensions":{"blocks":{"streamChannels":{"status":"u.o.t"}}},"tasks":[{"taskId":"t"}],"next":null}`))
	f.Add([]byte(`{"uploadId":"u","uploadUrl":"http://x/","formFields":[{"key":"k","value":"v"},{"name":"n"}],"artifactRef":{"kind":"file"}}`))
	f.Add([]byte(`{"error":{"code":-32000,"message":"m","data":{"code":"c","details":{}}}}`))
	f.Add([]byte(`{"pamToken":"p","channel":"c","ttlMinutes":60,"playground":{"publishKey":"a"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := apiCall{op: "op", object: "object"}
		if agent, found, err := decodeAgent(a, b, "name"); found && err == nil && agent.Name == "" {
			t.Error("agent without a name")
		}
		if _, tokens, err := (&Client{now: time.Now}).decodeConnect(a, b); err == nil && tokens.access == "" {
			t.Error("connected without a token")
		}
		for _, decode := range []func(apiCall, []byte) (credential, error){decodeConsumerToken, decodeEndpointToken} {
			if c, err := decode(a, b); err == nil && (c.Access == "" || c.Life < 0) {
				t.Errorf("credential %+v", c)
			}
		}
		if r, err := decodeSendResult(b); err == nil && r.TaskID == "" {
			t.Error("task without an id")
		}
		if r, err := decodeTaskRow(b); err == nil && r.TaskID == "" {
			t.Error("row without an id")
		}
		if _, _, err := decodeTaskList(b); err == nil && !json.Valid(b) {
			t.Error("a list that is not JSON")
		}
		if r, err := decodeReadToken(a, b); err == nil && (r.Token == "" || r.TTLMinutes < 0) {
			t.Errorf("%+v", r)
		}
		if p, err := decodeUploadPlace(a, b); err == nil && !strings.HasPrefix(p.url, "http") {
			t.Errorf("place %q", p.url)
		}
		_, _ = decodeConfirmed(a, b)
		_, _, _ = decodeRPC(a, b)
		_, _ = decodeCDM(b)
		_ = answerError(a, 500, b).Error()
	})
}
