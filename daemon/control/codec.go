package control

import (
	"errors"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one is made of
)

// textCodec is gRPC's codec for protobuf, but for answers with text that is not UTF-8. File names, output of handlers and
// errors of others may hold any bytes, and one of them must not take the whole answer away: in such an answer each wrong
// byte becomes U+FFFD. This is the one place where text of others is made valid on its way out.
type textCodec struct{ encoding.CodecV2 }

func newTextCodec() textCodec { return textCodec{encoding.GetCodecV2("proto")} }

// Marshal costs nothing more than the codec's own, unless that fails.
func (c textCodec) Marshal(v any) (mem.BufferSlice, error) {
	if encoded, ok := v.(EncodedItems); ok {
		return encoded.buffers(), nil
	}
	data, err := c.CodecV2.Marshal(v)
	m, ok := v.(proto.Message)
	if err == nil || !ok {
		return data, err
	}
	repaired := proto.Clone(m)
	makeValid(repaired.ProtoReflect())
	data, again := c.CodecV2.Marshal(repaired)
	if again != nil {
		return nil, errors.Join(err, again)
	}
	return data, nil
}

// makeValid replaces the strings of a message and of all below it that are not UTF-8.
func makeValid(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap(): // the control API has none
		case f.IsList():
			list := v.List()
			for i := range list.Len() {
				if text, wrong := validText(f, list.Get(i)); wrong {
					list.Set(i, text)
				} else if f.Message() != nil {
					makeValid(list.Get(i).Message())
				}
			}
		default:
			if text, wrong := validText(f, v); wrong {
				m.Set(f, text)
			} else if f.Message() != nil {
				makeValid(v.Message())
			}
		}
		return true
	})
}

func validText(f protoreflect.FieldDescriptor, v protoreflect.Value) (valid protoreflect.Value, wrong bool) {
	if f.Kind() != protoreflect.StringKind || utf8.ValidString(v.String()) {
		return v, false
	}
	return protoreflect.ValueOfString(strings.ToValidUTF8(v.String(), "\uFFFD")), true
}
