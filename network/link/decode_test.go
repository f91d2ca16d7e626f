package link

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodePoll(t *testing.T) {
	a, err := decodePoll([]byte(`{"t":{"t":"17069876543219999","r":12},"m":[
		{"a":"1","f":514,"i":"alice","s":7,"p":{"t":"17069876543219999","r":12},"k":"sub","c":"room","u":{"x":1},"d":{"n":90071992547409931},"e":0},
		{"p":{"t":"2"},"c":"room","d":"file","e":4},
		{"p":{"t":"2"},"c":"room","d":"file as text","e":"4"},
		{"p":{"t":"3"},"c":"room","d":null,"i":null,"u":null},
		{"p":{"t":"4"},"d":"no channel"},
		17,
		{"c":"room","d":"no timetoken"},
		{"c":"room","p":{"t":"5"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Received{
		{Channel: "room", Timetoken: "17069876543219999", Publisher: "alice", Body: json.RawMessage(`{"n":90071992547409931}`), Meta: json.RawMessage(`{"x":1}`)},
		{Channel: "room", Timetoken: "3", Body: json.RawMessage(`null`)},
	}
	if d := cmp.Diff(want, a.entries); d != "" {
		t.Error(d)
	}
	if a.cursor != 17069876543219999 || a.region != 12 || a.skipped != 6 || a.malformed == nil {
		t.Errorf("cursor %d, region %d, skipped %d, malformed %v", a.cursor, a.region, a.skipped, a.malformed)
	}
	for _, bad := range []string{"", "null", "[]", "{}", `{"t":{"t":""},"m":[]}`, `{"t":{"t":"0"},"m":[]}`, `{"t":{"t":"1"},"m":{}}`, `{"t":{"t":"-1"}}`, `{"t":{"t":"1"},"m":[`, `<html>`} {
		if a, err := decodePoll([]byte(bad)); err == nil {
			t.Errorf("%s: taken as cursor %d", bad, a.cursor)
		}
	}
}

func TestDecodePublishAnswer(t *testing.T) {
	for text, want := range map[string]uint64{
		`[1,"Sent","17069876543210001"]`: 17069876543210001, `[0,"Message Too Large","17069876543210001"]`: 0, `[1,"Sent"]`: 0, `{}`: 0, ``: 0, `[1,"Sent",null]`: 0,
	} {
		if got, _ := decodePublishAnswer([]byte(text)); got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
}

func TestDecodeHistoryTakesEncodedNames(t *testing.T) {
	page, size, err := decodeHistory([]byte(`{"status":200,"channels":{"a%20b":[{"message":1,"timetoken":"5","uuid":"u","meta":""},{"message":2,"timetoken":null},{"message":3,"timetoken":"7","uuid":null,"meta":{"k":1}}]}}`), "a b")
	want := []Stored{{Body: []byte("1"), Timetoken: "5", Publisher: "u"}, {Body: []byte("3"), Timetoken: "7", Meta: []byte(`{"k":1}`)}}
	if d := cmp.Diff(want, page); d != "" || size != 3 || err != nil {
		t.Error(d, size, err)
	}
}

func TestStatusErrorShowsOnlyTheMessage(t *testing.T) {
	for body, want := range map[string]string{
		`{"message":"Forbidden","payload":{"token":"secret"}}`:          "Forbidden",
		`[0,"Invalid Key","1"]`:                                         "Invalid Key",
		`{"message":{"streamSetupResponse":{"token":"secret"}},"ok":1}`: "",
		`secret`: "",
	} {
		e := &StatusError{Op: "publish", Channel: "c", Status: 403, Body: []byte(body)}
		if s := e.Error(); strings.Contains(s, "secret") || !strings.Contains(s, want) {
			t.Errorf("%s: %s", body, s)
		}
	}
}

func TestEqualJSON(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{`{"a":1,"b":"ü"}`, `{"b":"\u00fc", "a":1}`}:           true,
		{`{"a":90071992547409931}`, `{"a":90071992547409932}`}: false,
		{`{"a":1}`, `{`}: false,
		{`x`, `x`}:       true,
	} {
		if equalJSON([]byte(pair[0]), []byte(pair[1])) != want {
			t.Errorf("%s and %s: want %v", pair[0], pair[1], want)
		}
	}
}

func FuzzDecodePoll(f *testing.F) {
	f.Add([]byte(`{"t":{"t":"17069876543219999","r":12},"m":[{"i":"alice","p":{"t":"1"},"c":"room","u":{"x":1},"d":{"n":1},"e":0}]}`))
	f.Add([]byte(`{"t":{"t":1,"r":"x"},"m":[null,{"p":3}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodePoll(b)
		if err == nil && a.cursor == 0 {
			t.Error("an answer without a cursor was taken")
		}
		for _, m := range a.entries {
			if m.Channel == "" || !json.Valid(m.Body) || m.Meta != nil && !json.Valid(m.Meta) {
				t.Errorf("delivers %+v", m)
			}
			if _, ok := parseTimetoken([]byte(m.Timetoken)); !ok {
				t.Errorf("timetoken %q", m.Timetoken)
			}
		}
	})
}

func FuzzDecodeAnswers(f *testing.F) {
	f.Add([]byte(`[1,"Sent","17069876543210000"]`))
	f.Add([]byte(`[17069876543210000]`))
	f.Add([]byte(`{"status":200,"channels":{"c":[{"message":{"text":"x"},"timetoken":"17069876543210000","uuid":"u","meta":""}]}}`))
	f.Add([]byte(`{"message":"Forbidden"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		decodePublishAnswer(b)
		decodeTimeAnswer(b)
		answerMessage(b)
		page, size, err := decodeHistory(b, "c")
		if err == nil && len(page) > size {
			t.Error("more messages than entries")
		}
	})
}
