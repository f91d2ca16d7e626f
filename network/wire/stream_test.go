package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestStreamNames(t *testing.T) {
	for id, good := range map[string]bool{"t1-1": true, "_default": true, strings.Repeat("a", 92): true, "": false, "a.b": false, "é": false, strings.Repeat("a", 93): false} {
		if err := CheckStreamID(id); (err == nil) != good {
			t.Errorf("id %q: %v", id, err)
		}
	}
	if err := CheckStreamChannel("echo", strings.Repeat("a", 92-len("stream.echo."))); err != nil {
		t.Error(err)
	}
	for agent, id := range map[string]string{"echo": strings.Repeat("a", 81), "e.o": "a", "echo2": "a.b"} {
		if CheckStreamChannel(agent, id) == nil {
			t.Errorf("channel of agent %s and stream %s", agent, id)
		}
	}
}

func TestDirections(t *testing.T) {
	for d, inverted := range map[StreamDirection]StreamDirection{Outbound: Inbound, Inbound: Outbound, Bidirectional: Bidirectional} {
		if d.Inverted() != inverted || !d.Valid() || d.Writes() != inverted.Reads() {
			t.Errorf("%s seen from the other side is %s", d, d.Inverted())
		}
		for a, want := range map[StreamAffinity]bool{Dedicated: d != Bidirectional, Shared: false} {
			if HasEndMarker(d, a) != want {
				t.Errorf("%s %s has an end marker: %v", a, d, !want)
			}
		}
	}
}

func TestDecodeStreamStarted(t *testing.T) {
	entry := func(more string) string {
		return `{"direction":"inbound","format":"events","affinity":"shared","channel":"stream.a.b","token":"T"` + more + `}`
	}
	streams, dropped, ok := DecodeStreamStarted([]byte(`{"type":"progress","streamEvent":"stream_started","declaredStream":"d","streams":{"z":` + entry(`,"metadata":{"k":1}`) +
		`,"a":{"format":"bytes","affinity":"dedicated","channel":"c","token":"T","metadata":7},
		"x1":null,"x2":[],"x3":` + entry(`,"format":"text"`) + `,"x4":` + entry(`,"affinity":null`) + `,"x5":` + entry(`,"direction":"up"`) + `,"x6":` + entry(`,"channel":""`) +
		`,"x7":` + entry(`,"token":7`) + `,"x.8":` + entry("") + `}}`))
	want := []AnnouncedStream{
		{ID: "z", Declared: "d", Direction: Inbound, Format: FormatEvents, Affinity: Shared, Channel: "stream.a.b", Token: "T", Metadata: json.RawMessage(`{"k":1}`)},
		{ID: "a", Declared: "d", Direction: Outbound, Format: FormatBytes, Affinity: Dedicated, Channel: "c", Token: "T"},
	}
	if d := cmp.Diff(want, streams); d != "" || !ok {
		t.Error(d, ok)
	}
	if len(dropped) != 8 {
		t.Errorf("dropped %v", dropped)
	}
	for _, other := range []string{`{"type":"progress"}`, `{"streamEvent":"other","streams":{}}`, `[]`, `5`} {
		if _, _, ok := DecodeStreamStarted([]byte(other)); ok {
			t.Errorf("%s announces streams", other)
		}
	}
	if streams, dropped, ok := DecodeStreamStarted([]byte(`{"streamEvent":"stream_started","streams":7}`)); !ok || streams != nil || dropped != nil {
		t.Error(streams, dropped, ok)
	}
}

var setup = StreamSetup{
	TaskID: "t1", OrgID: "o1", AgentName: "echo", StreamID: "t1-1", Direction: Outbound, Format: FormatBytes, Affinity: Dedicated, TaskKind: Request,
	DurationMinutes: 60, Declared: "_default", Phase: PhaseEmbedded,
}

func TestEncodeSetup(t *testing.T) {
	b, err := setup.Encode()
	want := `{"type":"stream_setup","protocolVersion":"2026-05-01","taskId":"t1","orgId":"o1","agentName":"echo","streamId":"t1-1","channel":"stream.echo.t1-1",` +
		`"direction":"outbound","format":"bytes","affinity":"dedicated","taskKind":"request","durationMinutes":60,"declaredStream":"_default","phase":"embedded"}`
	if err != nil || string(b) != want {
		t.Errorf("%s\n%v", b, err)
	}
	with := setup
	with.Metadata = json.RawMessage(`{"a":"<&>"}`)
	if b, err := with.Encode(); err != nil || !strings.Contains(string(b), `,"metadata":{"a":"<&>"}}`) {
		t.Errorf("%s %v", b, err)
	}
	for name, change := range map[string]func(*StreamSetup){
		"metadata":       func(s *StreamSetup) { s.Metadata = json.RawMessage(`[1]`) },
		"no JSON":        func(s *StreamSetup) { s.Metadata = json.RawMessage(`{`) },
		"much metadata":  func(s *StreamSetup) { s.Metadata = json.RawMessage(`{"a":"` + strings.Repeat("x", 33_000) + `"}`) },
		"duration":       func(s *StreamSetup) { s.DurationMinutes = 0 },
		"id":             func(s *StreamSetup) { s.StreamID = "a.b" },
		"long name":      func(s *StreamSetup) { s.StreamID = strings.Repeat("a", 92) },
		"agent's name":   func(s *StreamSetup) { s.AgentName = "" },
		"empty metadata": func(s *StreamSetup) { s.Metadata = json.RawMessage(``) },
	} {
		bad := setup
		change(&bad)
		if b, err := bad.Encode(); err == nil {
			t.Errorf("%s: %s", name, b)
		}
	}
}

const goodAnswer = `{"taskId":"task-123","streamId":"temperature","channel":"stream.weather.temperature","direction":"outbound","phase":"embedded","token":"T7a","tokenTtlMinutes":62.5}`

func TestDecodeSetupAnswer(t *testing.T) {
	want := StreamGrant{TaskID: "task-123", StreamID: "temperature", Channel: "stream.weather.temperature", Direction: Outbound, Phase: PhaseEmbedded, Token: "T7a", TTLMinutes: 62}
	for _, body := range []string{
		`{"status":403,"message":{"ok":true,"streamSetupResponse":` + goodAnswer + `}}`,
		`{"ok":true,"streamSetupResponse":` + goodAnswer + `,"more":1}`,
		`{"streamSetupResponse":` + goodAnswer + `}`,
	} {
		if got, err := DecodeSetupAnswer(403, []byte(body), PhaseEmbedded); err != nil || got != want {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	activated := strings.NewReplacer(`"embedded"`, `"activate"`, `"T7a"`, `null`).Replace(goodAnswer)
	if got, err := DecodeSetupAnswer(403, []byte(`{"message":{"ok":true,"streamSetupResponse":`+activated+`}}`), PhaseActivate); err != nil || got.Token != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDecodeSetupRefusals(t *testing.T) {
	answer := func(old, new string) string {
		return `{"message":{"ok":true,"streamSetupResponse":` + strings.Replace(goodAnswer, old, new, 1) + `}}`
	}
	for _, tc := range []struct {
		status  int
		body    string
		phase   SetupPhase
		outcome SetupOutcome
		text    string
	}{
		{403, `{"status":403,"message":{"ok":false,"error":{"code":"InvalidArgument","message":"no such stream."}}}`, PhaseEmbedded, SetupRefused, "refused the stream with InvalidArgument: no such stream"},
		{403, `{"ok":false,"error":{"code":"TokenGrantFailed","message":"later"}}`, PhaseEmbedded, SetupRefused, "TokenGrantFailed"},
		{403, `{"message":{"ok":false,"error":{"code":"","message":"x"}}}`, PhaseEmbedded, SetupDenied, "denied"},
		{403, `{"message":{"ok":false}}`, PhaseEmbedded, SetupDenied, "denied"},
		{403, `{"message":"Forbidden","status":403}`, PhaseEmbedded, SetupDenied, "denied"},
		{403, `<html>`, PhaseEmbedded, SetupDenied, "denied"},
		{403, `null`, PhaseEmbedded, SetupDenied, "denied"},
		{403, `{"message":{"streamSetupResponse":` + goodAnswer + `}}`, PhaseEmbedded, SetupDenied, "denied"},
		{403, `{"message":{"ok":"true","streamSetupResponse":` + goodAnswer + `}}`, PhaseEmbedded, SetupDenied, "denied"},
		{200, `[1,"Sent","1"]`, PhaseEmbedded, SetupNotIntercepted, "published the setup request"},
		{503, `{"message":{"ok":true,"streamSetupResponse":` + goodAnswer + `}}`, PhaseEmbedded, SetupUnavailable, "503"},
		{403, answer(`"task-123"`, `""`), PhaseEmbedded, SetupMalformed, "taskId"},
		{403, answer(`"temperature"`, `7`), PhaseEmbedded, SetupMalformed, "streamId"},
		{403, answer(`"stream.weather.temperature"`, `null`), PhaseEmbedded, SetupMalformed, "channel"},
		{403, answer(`"outbound"`, `"up"`), PhaseEmbedded, SetupMalformed, "direction"},
		{403, answer(`"embedded"`, `"other"`), PhaseEmbedded, SetupMalformed, "phase"},
		{403, answer(`"embedded"`, `"activate"`), PhaseEmbedded, SetupMalformed, "phase"},
		{403, answer(`"T7a"`, `""`), PhaseEmbedded, SetupMalformed, "no token"},
		{403, answer(`62.5`, `0`), PhaseEmbedded, SetupMalformed, "tokenTtlMinutes"},
		{403, answer(`62.5`, `"62"`), PhaseEmbedded, SetupMalformed, "tokenTtlMinutes"},
		{403, answer(`"embedded"`, `"activate"`), PhaseActivate, SetupMalformed, "has a token"},
	} {
		grant, err := DecodeSetupAnswer(tc.status, []byte(tc.body), tc.phase)
		e, ok := errors.AsType[*SetupError](err)
		if !ok || e.Outcome != tc.outcome || e.Status != tc.status || !strings.Contains(e.Error(), tc.text) {
			t.Errorf("%d %s: %+v, %v", tc.status, tc.body, grant, err)
		}
	}
}

// TestElementsComeBack: what is appended is JSON of the announced length, and decodes to what it was made of.
func TestElementsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chunks := rapid.SliceOfN(rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })), 1, 5).Draw(t, "chunks")
		text := true
		for _, c := range chunks {
			n, ok := TextBytes(c)
			if ok != utf8.Valid(c) {
				t.Fatalf("%q can be text: %v", c, ok)
			}
			if got := AppendText(nil, c); ok && len(got) != n {
				t.Fatalf("%q needs %d bytes, announced are %d", c, len(got), n)
			}
			if got := AppendBase64(nil, c); len(got) != Base64Bytes(len(c)) {
				t.Fatalf("%d bytes need %d", len(c), len(got))
			}
			text = text && ok
		}
		h := StreamHead{StreamID: "s", Format: FormatBytes, FirstSeq: rapid.Int64Range(0, 3).Draw(t, "first")}
		at := StreamStamp{Seq: 5, TS: 7, Unacked: rapid.Int64Range(3, 5).Draw(t, "unacked")}
		body := h.AppendStart(nil, at, !text)
		for i, c := range chunks {
			if i > 0 {
				body = append(body, ',')
			}
			if text {
				body = AppendText(body, c)
			} else {
				body = AppendBase64(body, c)
			}
		}
		body = h.AppendStop(body)
		m, err := DecodeStreamMessage(body)
		if err != nil || !json.Valid(body) {
			t.Fatalf("%s: %v", body, err)
		}
		first := h.FirstSeq
		if first == 0 {
			first = -1
		}
		want := StreamMessage{Kind: StreamData, Type: "stream_data", StreamID: "s", Seq: 5, TS: 7, FirstSeq: first, Unacked: at.Unacked, Chunks: chunks, Text: text}
		if d := cmp.Diff(want, m, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func TestBinaryEvent(t *testing.T) {
	e := AppendBinaryEvent(nil, []byte{1, 2, 0xff})
	if string(e) != `{"$binary":"AQL/"}` || len(e) != BinaryEventBytes(3) {
		t.Errorf("%s", e)
	}
	if b, ok := BinaryEvent(e); !ok || string(b) != "\x01\x02\xff" {
		t.Errorf("%q, %v", b, ok)
	}
	for _, other := range []string{`{}`, `{"$binary":7}`, `{"$binary":"?"}`, `{"$binary":"AQ==","more":1}`, `5`, `[]`} {
		if _, ok := BinaryEvent([]byte(other)); ok {
			t.Errorf("%s is bytes", other)
		}
	}
}

func TestEndMarker(t *testing.T) {
	h := StreamHead{StreamID: "s1", Format: FormatBytes}
	if got := string(h.AppendEnd(nil, StreamStamp{Seq: 7, TS: 1700000000000, Unacked: 7}, "")); got != `{"type":"stream_end","protocolVersion":"2026-05-01","streamId":"s1","seq":7,"ts":1700000000000}` {
		t.Errorf("%s", got)
	}
	m, err := DecodeStreamMessage(h.AppendEnd(nil, StreamStamp{Seq: 7, Unacked: 7}, "no \"power\""))
	if err != nil || m.Kind != StreamEnd || m.Failure != `no "power"` || m.Seq != 7 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestPiece(t *testing.T) {
	if SliceBytes(DefaultStreamMessageBytes) != 11904 {
		t.Errorf("a piece holds %d bytes", SliceBytes(DefaultStreamMessageBytes))
	}
	h := StreamHead{StreamID: strings.Repeat("s", MaxStreamIDBytes), Format: FormatEvents, FirstSeq: 1 << 52}
	body := h.AppendPiece(nil, StreamStamp{Seq: 1<<53 - 1, TS: 1 << 50, Unacked: 1 << 52}, "mp-1764316800000-9007199254740991-cafeca", 9_999_999, 9_999_999, make([]byte, 11904))
	if len(body) > DefaultStreamMessageBytes {
		t.Errorf("the largest piece has %d bytes", len(body))
	}
	m, err := DecodeStreamMessage(body)
	if err != nil || m.Kind != StreamPiece || m.Part.Number != 9_999_999 || len(m.Part.Data) != 11904 || m.Part.Broken {
		t.Errorf("%+v, %v", m.Part, err)
	}
}

func TestStreamMeta(t *testing.T) {
	meta := StreamMeta("echo-stream-0001")
	if string(meta) != `{"sender":"echo-stream-0001","protocolVersion":"2026-05-01"}` || StreamSender(meta) != "echo-stream-0001" {
		t.Errorf("%s, sender %q", meta, StreamSender(meta))
	}
	for _, other := range []string{"", "5", "{}", `{"sender":7}`} {
		if s := StreamSender([]byte(other)); s != "" {
			t.Errorf("%s: sender %q", other, s)
		}
	}
}

// slowDecode reads a message with encoding/json alone.
func slowDecode(data []byte) (StreamMessage, bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal(data, &m) != nil || m == nil {
		return StreamMessage{}, false
	}
	number := func(key string) (int64, bool) {
		n, ok := integerMember(m, key)
		return n, ok && n >= 0 && string(m[key]) != "null"
	}
	s := StreamMessage{Type: stringMember(m, "type"), StreamID: stringMember(m, "streamId"), FirstSeq: -1}
	seq, ok := number("seq")
	if !ok {
		return s, false
	}
	s.Seq, s.Unacked = seq, seq
	s.TS, _ = number("ts")
	if n, ok := number("firstSeq"); ok && n <= seq {
		s.FirstSeq = n
	}
	if n, ok := number("unacked"); ok && n < seq {
		s.Unacked = n
	}
	part := objectMember(m, "multipart")
	switch {
	case s.Type == typeStreamEnd:
		s.Kind, s.Failure = StreamEnd, stringMember(m, "failure")
	case part != nil:
		var p map[string]json.RawMessage
		_ = json.Unmarshal(part, &p)
		n, ok1 := integerMember(p, "part")
		total, ok2 := integerMember(p, "total")
		var text *string
		if !ok1 || !ok2 || n < 1 || total < 2 || n > total || total > 1<<31-1 || stringMember(p, "id") == "" || json.Unmarshal(m["data"], &text) != nil || text == nil {
			return s, false
		}
		b, err := base64.StdEncoding.DecodeString(*text)
		s.Kind, s.Part = StreamPiece, StreamPart{ID: stringMember(p, "id"), Number: int(n), Total: int(total), Data: b, Broken: err != nil}
	case s.Type == typeStreamData:
		s.Kind = StreamData
		var chunks []*string
		if json.Unmarshal(m["chunks"], &chunks) != nil || len(chunks) == 0 {
			return s, false
		}
		e, said := m["encoding"]
		s.Text = !said || string(e) == "null" || stringMember(m, "encoding") == "utf8"
		if !s.Text && stringMember(m, "encoding") != "base64" {
			return s, false
		}
		for _, c := range chunks {
			if c == nil {
				return s, false
			}
			b := []byte(*c)
			if !s.Text {
				var err error
				if b, err = base64.StdEncoding.DecodeString(*c); err != nil {
					return s, false
				}
			}
			s.Chunks = append(s.Chunks, b)
		}
	case s.Type == typeStreamEvents:
		s.Kind = StreamData
		if json.Unmarshal(m["events"], &s.Events) != nil || len(s.Events) == 0 {
			return s, false
		}
	default:
		s.Kind, s.Raw = StreamRaw, bytes.TrimSpace(data)
	}
	return s, true
}

// FuzzDecodeStreamMessage: the fast way of decoding finds what encoding/json finds.
func FuzzDecodeStreamMessage(f *testing.F) {
	for _, s := range []string{
		`{"type":"stream_data","protocolVersion":"2026-05-01","streamId":"s1","seq":0,"ts":1700000000000,"encoding":"utf8","chunks":["hello ","w\u00f6rld\n",""]}`,
		`{"type":"stream_data","seq":1e2,"ts":1.5,"encoding":"base64","chunks":["","AQID"],"firstSeq":3,"unacked":99}`, `{"type":"stream_data","seq":0,"encoding":null,"chunks":["\ud83d"]}`,
		`{"type":"stream_events","seq":1,"events":[{"a":[1,{}]},null,"x", 5 ]}`, `{"type":"stream_end","seq":7,"failure":"x\"y"}`, `{"type":"other","seq":0}`,
		`{"type":"stream_data","seq":5,"multipart":{"id":"mp-1","part":1,"total":3},"data":"AQID"}`, `{"type":"stream_data","seq":5,"multipart":{"id":"m","part":1,"total":3},"data":"?"}`,
		`{"type":"stream_data","seq":true,"chunks":["x"]}`, `{"type":"stream_data","seq":-1,"chunks":["x"]}`, `{"type":"stream_data","seq":0,"chunks":[null]}`, `[]`, `5`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeStreamMessage(b)
		want, ok := slowDecode(b)
		if ok != (err == nil) {
			t.Fatalf("%q: %v, want %v", b, err, ok)
		}
		if ok {
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" && !foldedNames(b) {
				t.Fatalf("%q:\n%s", b, d)
			}
		}
	})
}

// foldedNames reports whether a name is written with escapes or comes twice, which the fast way reads otherwise.
func foldedNames(b []byte) bool {
	return strings.Contains(string(b), `\u00`) || strings.Count(string(b), `"multipart"`) > 1
}

func FuzzDecodeSetupAnswer(f *testing.F) {
	f.Add(403, []byte(`{"status":403,"message":{"ok":true,"streamSetupResponse":`+goodAnswer+`}}`))
	f.Add(403, []byte(`{"message":{"ok":false,"error":{"code":"InvalidArgument","message":"x"}}}`))
	f.Fuzz(func(t *testing.T, status int, b []byte) {
		g, err := DecodeSetupAnswer(status, b, PhaseEmbedded)
		if err == nil && (g.Token == "" || g.Channel == "" || !g.Direction.Valid() || status != 403) {
			t.Errorf("grants %+v", g)
		}
		if err != nil && err.Error() == "" {
			t.Error("no reason")
		}
	})
}

func FuzzDecodeStreamStarted(f *testing.F) {
	f.Add([]byte(`{"streamEvent":"stream_started","declaredStream":"d","streams":{"a":{"format":"bytes","affinity":"dedicated","channel":"c","token":"T"},"b":5}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		streams, _, _ := DecodeStreamStarted(b)
		for _, s := range streams {
			if s.Channel == "" || s.Token == "" || !s.Format.Valid() || !s.Direction.Valid() || !s.Affinity.Valid() || CheckStreamID(s.ID) != nil {
				t.Errorf("announces %+v", s)
			}
		}
	})
}
