package control

import (
	"slices"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// oddDaemon has names and texts with any bytes in them.
type oddDaemon struct{ fakeDaemon }

func (oddDaemon) Status() *controlv1.StatusResponse {
	return &controlv1.StatusResponse{
		Ready: true, Reasons: []string{"caf\xe9 is skipped", "fine"},
		Handlers: []*controlv1.Handler{{Name: "caf\xe9", Crash: &controlv1.Crash{Lines: []string{"\xff\xfe"}}}},
	}
}

// TestAnyBytes: one file name that is not UTF-8 takes nothing away but its own odd bytes.
func TestAnyBytes(t *testing.T) {
	c, err := Dial(t.Context(), serve(t, &oddDaemon{}, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.Ready || !slices.Equal(s.Reasons, []string{"caf\uFFFD is skipped", "fine"}) || s.Handlers[0].Name != "caf\uFFFD" || s.Handlers[0].Crash.Lines[0] != "\uFFFD" {
		t.Errorf("the status is %v", s)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCodecLeavesOriginals: what is repaired is a copy, and what is valid stays as it is.
func TestCodecLeavesOriginals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		m := &controlv1.StatusResponse{Version: text.Draw(t, "version"), Reasons: rapid.SliceOf(text).Draw(t, "reasons")}
		before := proto.CloneOf(m)
		data, err := newTextCodec().Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		defer data.Free()
		got := &controlv1.StatusResponse{}
		if err := proto.Unmarshal(data.Materialize(), got); err != nil {
			t.Fatal(err)
		}
		if m.Version != before.Version || !slices.Equal(m.Reasons, before.Reasons) {
			t.Fatal("the answer itself was changed")
		}
		valid := true
		for _, s := range append(m.Reasons, m.Version) {
			valid = valid && utf8.ValidString(s)
		}
		if valid && !proto.Equal(m, got) {
			t.Fatalf("a valid answer was changed to %v", got)
		}
	})
}

// TestCodecReachesEverything: no message of the API has a field that the codec passes over.
func TestCodecReachesEverything(t *testing.T) {
	messages := controlv1.File_blocks_control_v1_control_proto.Messages()
	for i := range messages.Len() {
		fields := messages.Get(i).Fields()
		for j := range fields.Len() {
			if f := fields.Get(j); f.IsMap() || f.Kind() == protoreflect.GroupKind {
				t.Errorf("%s is a map or a group, which the codec does not look into", f.FullName())
			}
		}
	}
}
