package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestEvents(t *testing.T) {
	artifact, err := ArtifactEvent("u.o.t1", "t1", "reply", InlineRef(Artifact{MIMEType: "text/plain", Data: []byte("Echoed request: <hello>")}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"running", RunningEvent("t1"), `{"type":"progress","taskId":"t1","progress":0,"state":"running","protocolVersion":"2026-05-01"}`},
		{"status", StatusEvent("t1", `half "way" <b>`), `{"type":"progress","taskId":"t1","message":"half \"way\" <b>","protocolVersion":"2026-05-01"}`},
		{"artifact", artifact, `{"type":"artifact","taskId":"t1","artifactRef":{"kind":"inline","mimeType":"text/plain","size":23,` +
			`"data":"RWNob2VkIHJlcXVlc3Q6IDxoZWxsbz4="},"outputId":"reply","protocolVersion":"2026-05-01"}`},
		{"completed", TerminalEvent("t1", Terminal{State: Completed}), `{"type":"terminal","taskId":"t1","state":"completed","protocolVersion":"2026-05-01"}`},
		{"failed", TerminalEvent("t1", Terminal{State: Failed, Error: "division by zero"}),
			`{"type":"terminal","taskId":"t1","state":"failed","error":"division by zero","protocolVersion":"2026-05-01"}`},
		{"terminated", TerminalEvent("t1", Terminal{State: Canceled, Reason: ReasonTerminated}),
			`{"type":"terminal","taskId":"t1","state":"canceled","reason":"terminated","protocolVersion":"2026-05-01"}`},
		{"expired pipe", TerminalEvent("t1", Terminal{State: Completed, CompletionReason: ReasonDurationExpired}),
			`{"type":"terminal","taskId":"t1","state":"completed","completionReason":"duration_expired","protocolVersion":"2026-05-01"}`},
		{"other version", TerminalEvent("t1", Terminal{State: Failed, Error: ReasonUnsupportedVersion, Version: "2027-01-01"}),
			`{"type":"terminal","taskId":"t1","state":"failed","error":"unsupported_protocol_version","protocolVersion":"2027-01-01"}`},
		{"metadata", EventMeta("sum_bot", "t1", ""), `{"agentName":"sum_bot","taskId":"t1","protocolVersion":"2026-05-01"}`},
	} {
		if diff := cmp.Diff(tc.want, string(tc.got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// TestEventsFit: whatever a handler says, its events are valid and fit into a message, and texts are cut at the end only.
func TestEventsFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]string{"a", "€", "😀", "\x00", "\"", "\n", "\xff", "<", "\u2028"}).Draw(t, "unit")
		text := strings.Repeat(unit, rapid.IntRange(0, 40000).Draw(t, "count"))
		for _, event := range [][]byte{StatusEvent("t1", text), TerminalEvent("t1", Terminal{State: Failed, Error: text})} {
			if len(event) > MaxMessageBytes/2 {
				t.Fatalf("event of %d bytes", len(event))
			}
			e, err := DecodeEvent(event)
			if err != nil {
				t.Fatal(err)
			}
			got := e.Message + e.Error
			if want := strings.ToValidUTF8(text, "\uFFFD"); unit != "\xff" && !strings.HasPrefix(want, strings.TrimSuffix(got, "…")) {
				t.Fatalf("text was changed, not cut")
			}
		}
	})
}

func TestArtifactEventTooLarge(t *testing.T) {
	if _, err := ArtifactEvent("u.o.t1", "t1", "", InlineRef(Artifact{Data: make([]byte, MaxInlineLimit)})); err != nil {
		t.Errorf("the largest inline limit does not fit: %v", err)
	}
	if _, err := ArtifactEvent("u.o.t1", "t1", strings.Repeat("o", MaxMessageBytes), InlineRef(Artifact{})); err == nil {
		t.Error("an event larger than a message was made")
	}
}

func TestDecodeEventErrors(t *testing.T) {
	for _, data := range []string{``, `null`, `[]`, `{}`, `{"type":7}`, `{"type":"terminal"`} {
		if e, err := DecodeEvent([]byte(data)); err == nil {
			t.Errorf("%q decoded to %+v", data, e)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(RunningEvent("t1"))
	f.Add(TerminalEvent("t1", Terminal{State: Failed, Error: "x"}))
	f.Add([]byte(`{"type":"artifact","artifactRef":{"kind":"file","size":"7"},"state":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEvent(data)
		if err == nil && e.Type == "" {
			t.Fatal("event without a type")
		}
	})
}

func TestCutText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		limit := rapid.IntRange(0, 40).Draw(t, "limit")
		got := CutText(s, limit)
		if len(got) > limit || (utf8.ValidString(s) && !utf8.ValidString(got)) || (len(s) <= limit && got != s) {
			t.Fatalf("CutText(%q, %d) = %q", s, limit, got)
		}
	})
}

func TestInlineRef(t *testing.T) {
	for _, data := range [][]byte{{}, []byte("x"), make([]byte, 1000)} {
		encoded, err := json.Marshal(InlineRef(Artifact{FileName: "a", Data: data}))
		if err != nil {
			t.Fatal(err)
		}
		var ref ArtifactRef
		if err := json.Unmarshal(encoded, &ref); err != nil {
			t.Fatal(err)
		}
		got, err := ref.Inline()
		if err != nil || string(got) != string(data) || ref.Size != int64(len(data)) || ref.MIMEType != DefaultMIMEType {
			t.Errorf("%d bytes became %d: %+v, %v", len(data), len(got), ref, err)
		}
	}
	text := "not base64!"
	for _, ref := range []ArtifactRef{{Kind: RefInline}, {Kind: RefFile, FileID: "f"}, {Kind: RefInline, Data: &text}} {
		if data, err := ref.Inline(); err == nil {
			t.Errorf("%+v has data %q", ref, data)
		}
	}
}

func TestChannels(t *testing.T) {
	if got := ControlFilter("AG-x-1"); got != `meta.instance == 'AG-x-1' || meta.broadcast == "true"` {
		t.Error(got)
	}
	org, id, ok := SplitTaskChannel(TaskChannel("org_9", "tsk_1"))
	if !ok || org != "org_9" || id != "tsk_1" {
		t.Error(org, id, ok)
	}
	for _, channel := range []string{"", "u.", "u.org", "u..t", "u.org.", "setup.org.t"} {
		if _, _, ok := SplitTaskChannel(channel); ok {
			t.Errorf("%q is no task channel", channel)
		}
	}
	for name, ok := range map[string]bool{"sum_bot": true, "A1": true, "": false, "a-b": false, "a b": false, "ä": false, "a\n": false} {
		if err := CheckAgentName(name); (err == nil) != ok {
			t.Errorf("agent name %q: %v", name, err)
		}
	}
}
