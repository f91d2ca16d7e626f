package blocks

import (
	"fmt"

	"github.com/blocksd/blocksd/network/wire"
)

// Error is a refusal that the caller gets as its answer.
type Error struct {
	// Status is the HTTP status where the answer has one; application errors of RPC calls are sent with 200.
	Status int
	// Code is the application code; RPC is the number of the JSON-RPC error.
	Code string
	RPC  int
	// Message is for humans.
	Message string
	// Details are those that belong to the code, nil for none.
	Details any
}

func (e *Error) Error() string { return e.Message }

// Numbers of JSON-RPC errors.
const (
	RPCApplication    = -32000
	RPCInvalidRequest = -32600
	RPCUnknownMethod  = -32601
	RPCInvalidParams  = -32602
)

// Application codes.
const (
	CodeUnauthorized     = "Unauthorized"
	CodeKeyInvalid       = "API_KEY_INVALID"
	CodeRefreshInvalid   = "REFRESH_TOKEN_INVALID"
	CodeForcedOffline    = "AGENT_FORCED_OFFLINE"
	CodeDenied           = "PermissionDenied"
	CodeNoAgent          = "AgentNotFound"
	CodeNoTask           = "TaskNotFound"
	CodeBillingMode      = "BillingModeMismatch"
	CodeNoBalance        = "InsufficientBalance"
	CodeBacklog          = "BacklogFull"
	CodeInvalidParams    = "InvalidParams"
	CodeUploadNotFound   = "UploadNotFound"
	CodeFileTooLarge     = "FileTooLarge"
	CodeUploadUnfinished = "UploadIncomplete"
	CodeUploadBusy       = "UploadInProgress"
	CodeBillingInvalid   = "BillingModeInvalid"
	CodeNoOrg            = "OrganizationNotFound"
	CodeNoKey            = "ApiKeyNotFound"
	CodeNoInvitation     = "InvitationNotFound"
	CodeNoGrant          = "GrantNotFound"
	CodeNameTaken        = "NameTaken"
	CodeTooMany          = "TooMany"
	CodeTaskKind         = "TaskKindUnsupported"
)

// Unauthorized is the refusal of a request without usable credentials.
func Unauthorized(message string) *Error {
	return &Error{Status: 401, Code: CodeUnauthorized, RPC: RPCApplication, Message: message}
}

func refused(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, RPC: RPCApplication, Message: fmt.Sprintf(format, args...)}
}

// InvalidParams is the refusal of a malformed request.
func InvalidParams(format string, args ...any) *Error {
	return &Error{Status: 400, Code: CodeInvalidParams, RPC: RPCInvalidParams, Message: fmt.Sprintf(format, args...)}
}

// Mismatch are the details of a billing mode that is not the agent's.
type Mismatch struct {
	Expected wire.BillingMode `json:"expected"`
	Got      wire.BillingMode `json:"got"`
}
