package wire

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// TestStringMember: a text that is taken as it stands is the text that a parser reads.
func TestStringMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) string { b, _ := json.Marshal(s); return string(b) }),
			rapid.StringMatching(`"(\\["\\/bfnrt]|\\u[0-9a-f]{4}|[a-z é€😀])*"`),
			rapid.Map(rapid.SliceOfN(rapid.ByteRange(0x20, 0xff), 0, 8), func(b []byte) string { return `"` + string(b) + `"` }),
			rapid.SampledFrom([]string{"", "null", "1", "true", "{}", `["a"]`, `""`}),
		).Draw(t, "raw")
		if raw != "" && !json.Valid([]byte(raw)) {
			t.Skip("members are parts of valid JSON")
		}
		var want string
		if json.Unmarshal([]byte(raw), &want) != nil {
			want = ""
		}
		if got := stringMember(map[string]json.RawMessage{"k": json.RawMessage(raw)}, "k"); got != want {
			t.Fatalf("%q reads as %q instead of %q", raw, got, want)
		}
	})
}
