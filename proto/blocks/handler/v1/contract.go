package handlerv1

// The parts of the handler contract that are no messages. docs/handler-contract.md explains them. The daemon and the Go
// SDK use them from here.
const (
	// ProtocolVersion of the contract, in the handshake line.
	ProtocolVersion = 1

	// CookieVariable has CookieValue in the environment of a handler. It is not a secret: it only keeps a person from
	// running the binary by hand.
	CookieVariable = "BLOCKS_HANDLER_COOKIE"
	CookieValue    = "blocks.handler.v1"

	// HostSocketVariable is the environment variable with the path of the host service's socket, HostTokenVariable the one
	// with the token of the process. Each call of the service carries the token in its metadata under HostTokenKey.
	HostSocketVariable = "BLOCKSD_HOST_SOCKET"
	HostTokenVariable  = "BLOCKSD_HOST_TOKEN"
	HostTokenKey       = "blocksd-host-token"
)
