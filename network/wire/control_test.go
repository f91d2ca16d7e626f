package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// start returns a StartTask message with the given members instead of or beside the usual ones.
func start(members string) string {
	return `{"type":"StartTask","taskId":"t1","orgId":"o1","ownerId":"u1","writeToken":"w","controlToken":"c"` + members + `}`
}

func TestDecodeControl(t *testing.T) {
	hello := "hello"
	pipe := `,"taskKind":"pipe","duration":60,"durationExpiresAtMs":1760003600000`
	for _, tc := range []struct {
		name, data, meta string
		want             Control
	}{
		{
			name: "request task", data: start(`,"requestParts":[{"partId":"request","text":"hello"}],"hasStream":true,"protocolVersion":"2026-05-01"`),
			want: Control{Type: TypeStartTask, TaskID: "t1", ProtocolVersion: "2026-05-01", Start: &StartTask{
				Task: Task{ID: "t1", Kind: Request, OwnerID: "u1", OrgID: "o1", HasStream: true,
					Parts: []Part{{PartID: "request", Text: &hello, Raw: json.RawMessage(`{"partId":"request","text":"hello"}`)}}},
				WriteToken: "w", ControlToken: "c", Version: "2026-05-01",
			}},
		},
		{
			name: "pipe task", data: start(pipe),
			want: Control{Type: TypeStartTask, TaskID: "t1", Start: &StartTask{
				Task:       Task{ID: "t1", Kind: Pipe, OwnerID: "u1", OrgID: "o1", Duration: time.Hour},
				WriteToken: "w", ControlToken: "c", ExpiresAtMS: 1760003600000,
			}},
		},
		{
			name: "unknown kind is a request", data: start(`,"taskKind":"batch"`),
			want: Control{Type: TypeStartTask, TaskID: "t1", Start: &StartTask{
				Task: Task{ID: "t1", Kind: Request, OwnerID: "u1", OrgID: "o1"}, WriteToken: "w", ControlToken: "c"}},
		},
		{
			name: "null counts as absent", data: start(`,"requestParts":null,"taskKind":null,"callerClaims":null,"protocolVersion":null,"unknown":{"a":[1]}`),
			want: Control{Type: TypeStartTask, TaskID: "t1", Start: &StartTask{
				Task: Task{ID: "t1", Kind: Request, OwnerID: "u1", OrgID: "o1"}, WriteToken: "w", ControlToken: "c"}},
		},
		{
			name: "owner from the claims", data: `{"type":"StartTask","taskId":"t1","ownerId":7,"callerClaims":{"sub":"s"}}`,
			want: Control{Type: TypeStartTask, TaskID: "t1", Start: &StartTask{
				Task: Task{ID: "t1", Kind: Request, OwnerID: "s", OrgID: "s", CallerClaims: json.RawMessage(`{"sub":"s"}`)}}},
		},
		{
			name: "no owner at all", data: `{"type":"StartTask","taskId":"t1","orgId":""}`,
			want: Control{Type: TypeStartTask, TaskID: "t1", Start: &StartTask{
				Task: Task{ID: "t1", Kind: Request, OwnerID: Anonymous, OrgID: Anonymous}}},
		},
		{
			name: "cancel for all", data: `{"type":"CancelTask","taskId":"t1","reason":"user"}`, meta: `{"instance":"i","broadcast":"true"}`,
			want: Control{Type: TypeCancelTask, TaskID: "t1", Broadcast: true},
		},
		{
			name: "broadcast false", data: `{"type":"ExpireTask","taskId":"t1"}`, meta: `{"broadcast":"false"}`,
			want: Control{Type: TypeExpireTask, TaskID: "t1"},
		},
		{
			name: "broadcast as a boolean", data: `{"type":"TerminateTask","taskId":"t1"}`, meta: `{"broadcast":true}`,
			want: Control{Type: TypeTerminateTask, TaskID: "t1", Broadcast: true},
		},
		{
			name: "metadata that is not an object", data: `{"type":"PauseTask","taskId":"t1"}`, meta: `[1]`,
			want: Control{Type: TypePauseTask, TaskID: "t1"},
		},
		{
			name: "environment", data: `{"type":"SwitchEnvironment","environment":"network","pamToken":"p"}`,
			want: Control{Type: TypeSwitchEnvironment, Environment: "network", PAMToken: "p"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DecodeControl([]byte(tc.data), []byte(tc.meta))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeControlRefusals(t *testing.T) {
	pipe := func(duration, expires string) string {
		return start(`,"taskKind":"pipe","duration":` + duration + `,"durationExpiresAtMs":` + expires)
	}
	for _, tc := range []struct{ name, data, reason string }{
		{"version of the future", start(`,"protocolVersion":"2027-01-01"`), ReasonUnsupportedVersion},
		{"parts are no array", start(`,"requestParts":{}`), ReasonInvalidStartTask},
		{"pipe without duration", start(`,"taskKind":"pipe","durationExpiresAtMs":1`), ReasonInvalidStartTask},
		{"duration null", pipe(`null`, `1`), ReasonInvalidStartTask},
		{"duration true", pipe(`true`, `1`), ReasonInvalidStartTask},
		{"duration text", pipe(`"60"`, `1`), ReasonInvalidStartTask},
		{"duration with a fraction", pipe(`1.5`, `1`), ReasonInvalidStartTask},
		{"duration 0", pipe(`0`, `1`), ReasonInvalidStartTask},
		{"duration too long", pipe(`43201`, `1`), ReasonInvalidStartTask},
		{"duration beyond numbers", pipe(`1e400`, `1`), ReasonInvalidStartTask},
		{"pipe without deadline", start(`,"taskKind":"pipe","duration":1`), ReasonInvalidStartTask},
		{"deadline 0", pipe(`1`, `0`), ReasonInvalidStartTask},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := DecodeControl([]byte(tc.data), nil)
			var refused *StartTaskError
			if !errors.As(err, &refused) {
				t.Fatalf("error %v is not a *StartTaskError", err)
			}
			if refused.Reason != tc.reason {
				t.Errorf("reason %q, want %q", refused.Reason, tc.reason)
			}
			// What the answer needs.
			s := refused.Start
			if s == nil || c.Start != s || s.Task.ID != "t1" || s.Task.OrgID != "o1" || s.WriteToken != "w" || s.ControlToken != "c" {
				t.Errorf("start is %+v", s)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error is not one sentence: %q", err)
			}
		})
	}
}

func TestDecodeControlErrors(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		ignored    bool
	}{
		{"empty", ``, true},
		{"null", `null`, true},
		{"text", `"StartTask"`, true},
		{"array", `[]`, true},
		{"cut", `{"type":"StartTask","taskId":"t1"`, true},
		{"no type", `{}`, true},
		{"type is a number", `{"type":1}`, true},
		{"unknown type", `{"type":"Dance","taskId":"t1"}`, true},
		{"start without id", `{"type":"StartTask"}`, false},
		{"start with an id that is not a string", `{"type":"StartTask","taskId":7}`, false},
		{"cancel without id", `{"type":"CancelTask"}`, false},
		{"switch without token", `{"type":"SwitchEnvironment","environment":"network"}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DecodeControl([]byte(tc.data), nil)
			var refused *StartTaskError
			if err == nil || errors.As(err, &refused) {
				t.Fatalf("error is %v", err)
			}
			if errors.Is(err, ErrIgnored) != tc.ignored {
				t.Errorf("errors.Is(%v, ErrIgnored) = %v", err, !tc.ignored)
			}
		})
	}
}

// TestStartTaskRoundTrip: what the network's side sends is what the instance reads.
func TestStartTaskRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~äöü€😀]{1,20}`)
		s := StartTask{
			Task: Task{
				ID: text.Draw(t, "id"), AgentName: text.Draw(t, "agent"), Kind: Request, OwnerID: text.Draw(t, "owner"), OrgID: text.Draw(t, "org"),
				HasStream: rapid.Bool().Draw(t, "stream"), ConsumerPublicKey: text.Draw(t, "key"),
				CallerClaims: json.RawMessage(`{"sub":"x"}`),
			},
			WriteToken: text.Draw(t, "token"), ControlToken: text.Draw(t, "control"), Version: ProtocolVersion,
		}
		if rapid.Bool().Draw(t, "pipe") {
			s.Task.Kind = Pipe
			s.Task.Duration = time.Duration(rapid.IntRange(1, MaxPipeMinutes).Draw(t, "minutes")) * time.Minute
			s.ExpiresAtMS = rapid.Int64Range(1, 1<<53).Draw(t, "expires")
		}
		s.Task.Parts = []Part{}
		for range rapid.IntRange(0, 3).Draw(t, "parts") {
			body := text.Draw(t, "text")
			s.Task.Parts = append(s.Task.Parts, Part{PartID: text.Draw(t, "part"), ContentType: "text/plain", Text: &body})
		}
		data, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		c, err := DecodeControl(data, nil)
		if err != nil {
			t.Fatalf("decode %s: %v", data, err)
		}
		for i := range c.Start.Task.Parts {
			c.Start.Task.Parts[i].Raw = nil
		}
		if diff := cmp.Diff(&s, c.Start); diff != "" {
			t.Fatalf("-sent +received:\n%s", diff)
		}
	})
}

func FuzzDecodeControl(f *testing.F) {
	for _, seed := range []string{
		start(``), start(`,"taskKind":"pipe","duration":60,"durationExpiresAtMs":1`), start(`,"requestParts":[null,1,{"artifactRef":{"data":"eA=="}}]`),
		`{"type":"CancelTask","taskId":"t1"}`, `{"type":"SwitchEnvironment","environment":"network","pamToken":"p"}`, `null`, `{`,
	} {
		f.Add([]byte(seed), []byte(`{"instance":"i","broadcast":"true"}`))
	}
	f.Fuzz(func(t *testing.T, data, meta []byte) {
		c, err := DecodeControl(data, meta)
		var refused *StartTaskError
		switch {
		case errors.As(err, &refused):
			if refused.Start == nil || refused.Start.Task.ID == "" || refused.Start.Task.OrgID == "" {
				t.Fatalf("refusal of %q cannot be answered: %+v", data, refused)
			}
		case err != nil:
			if len(err.Error()) > 1024 {
				t.Fatalf("error text of %d bytes", len(err.Error()))
			}
		case c.Type == TypeStartTask:
			if c.Start.Task.ID == "" || c.Start.Task.OrgID == "" || c.Start.Task.OwnerID == "" {
				t.Fatalf("task without names: %+v", c.Start.Task)
			}
			for _, p := range c.Start.Task.Parts {
				if _, err := json.Marshal(p); err != nil {
					t.Fatalf("part %q cannot be passed on: %v", p.Raw, err)
				}
				if p.File != nil {
					_, _ = p.File.Inline()
				}
			}
			if _, err := c.Start.Encode(); err != nil {
				t.Fatalf("encode again: %v", err)
			}
		case c.TaskID == "" && c.Type != TypeSwitchEnvironment:
			t.Fatalf("%s without a task", c.Type)
		}
	})
}
