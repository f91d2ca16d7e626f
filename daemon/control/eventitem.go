package control

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// EncodedItems is an EventsResponse as it goes out: items one behind the other, so that each is encoded once for all watchers.
type EncodedItems []byte

// itemsField is the number of the items in an EventsResponse.
const itemsField protowire.Number = 1

// AppendItem appends one item.
func (e EncodedItems) AppendItem(i *controlv1.EventItem) (EncodedItems, error) {
	b, err := proto.Marshal(i)
	if err != nil { // most likely text that is not UTF-8, as in textCodec
		repaired := proto.Clone(i)
		makeValid(repaired.ProtoReflect())
		if b, err = proto.Marshal(repaired); err != nil {
			return e, err
		}
	}
	return protowire.AppendBytes(protowire.AppendTag(e, itemsField, protowire.BytesType), b), nil
}

// Decode returns the items, for a watcher in the same process.
func (e EncodedItems) Decode() ([]*controlv1.EventItem, error) {
	var r controlv1.EventsResponse
	err := proto.Unmarshal(e, &r)
	return r.GetItems(), err
}

func (e EncodedItems) buffers() mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(e)} }
