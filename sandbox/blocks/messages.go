package blocks

import "github.com/blocksd/blocksd/sandbox/pubsub"

// backendUUID is the publisher of everything that the network itself publishes.
const backendUUID = "blocks-backend"

// broadcastMeta lets a control message through to all instances. The flag is a text: that is what their filter
// compares.
var broadcastMeta = []byte(`{"broadcast":"true"}`)

func instanceMeta(id string) []byte {
	return append(pubsub.AppendString([]byte(`{"instance":`), id), '}')
}
