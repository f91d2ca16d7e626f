package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
)

// RPCError is a call that the network refused. The more specific errors below contain one.
type RPCError struct {
	// Method is the call, as "SendMessage".
	Method string
	// Code is the number of JSON-RPC, or the HTTP status of an answer that is not a success.
	Code int
	// Message is the network's text.
	Message string
	// AppCode says more about an application error (-32000), as "InsufficientBalance"; may be empty.
	AppCode string
	// Data is the object that came with the error, Details its member of that name; nil for none.
	Data, Details json.RawMessage

	err error // with the whole sentence
}

func (e *RPCError) Error() string {
	if e.err == nil { // made by somebody else, perhaps for a test
		return fmt.Sprintf("%s was refused by the network: %s (code %d)", e.Method, e.Message, e.Code)
	}
	return e.err.Error()
}

func (e *RPCError) Unwrap() error { return e.err }

// BillingModeMismatchError says that the agent has another billing mode than Options.BillingMode.
type BillingModeMismatchError struct {
	// Expected is the agent's mode, Got the one of the message.
	Expected, Got BillingMode
	rpc           *RPCError
}

func (e *BillingModeMismatchError) Error() string {
	return fmt.Sprintf("%s: the agent is %s and the client is for %s agents: set Options.BillingMode to %q, or leave it empty", e.rpc, e.Expected, e.Got, e.Expected)
}

func (e *BillingModeMismatchError) Unwrap() error { return e.rpc }

// InsufficientBalanceError says that the account cannot pay the task. The amounts are decimal numbers.
type InsufficientBalanceError struct {
	Required, Available string
	rpc                 *RPCError
}

func (e *InsufficientBalanceError) Error() string {
	if e.Required == "" {
		return e.rpc.Error()
	}
	return fmt.Sprintf("%s: the task costs %s and the account has %s", e.rpc, e.Required, e.Available)
}

func (e *InsufficientBalanceError) Unwrap() error { return e.rpc }

// PermissionDeniedError says that the credential is valid but may not do this.
type PermissionDeniedError struct{ err error }

func (e *PermissionDeniedError) Error() string { return e.err.Error() }

func (e *PermissionDeniedError) Unwrap() error { return e.err }

// NotFoundError says that there is no such agent or task, or none that the credential may see.
type NotFoundError struct{ err error }

func (e *NotFoundError) Error() string { return e.err.Error() }

func (e *NotFoundError) Unwrap() error { return e.err }

// AnonymousDeniedError says that the task may not be read without an account (status 403).
type AnonymousDeniedError struct {
	TaskID string
	err    error
}

func (e *AnonymousDeniedError) Error() string {
	return fmt.Sprintf("task %s may not be read without an account: %v", e.TaskID, e.err)
}

func (e *AnonymousDeniedError) Unwrap() error { return e.err }

// AuthRefreshFailedError says that the token could not be renewed. Nothing else was sent. Each further call begins with
// another attempt.
type AuthRefreshFailedError = backend.AuthRefreshFailedError

// UploadError says that a file could not be uploaded. The task was not sent.
type UploadError struct {
	PartID, FileName string
	// Status of the answer, 0 for none.
	Status int
	err    error
}

func (e *UploadError) Error() string {
	return fmt.Sprintf("upload the file of part %q: %v", e.PartID, e.err)
}

func (e *UploadError) Unwrap() error { return e.err }

// DownloadError says that an artifact could not be got.
type DownloadError struct {
	TaskID, FileName string
	// Status of the answer, 0 for none.
	Status int
	err    error
}

func (e *DownloadError) Error() string {
	return fmt.Sprintf("download artifact %q of task %s: %v", e.FileName, e.TaskID, e.err)
}

func (e *DownloadError) Unwrap() error { return e.err }

// statusOf is the status that an error of the network holds, 0 for none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*backend.Error](err); ok {
		return e.Status
	}
	if e, ok := errors.AsType[*link.StatusError](err); ok {
		return e.Status
	}
	return 0
}

// translate gives an error of the network the type that callers look for. Its text stays.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*backend.RPCError](err); ok {
		return refused(&RPCError{Method: e.Method, Code: e.Code, Message: e.Message, AppCode: e.AppCode, Data: e.Data, Details: e.Details, err: err})
	}
	if errors.Is(err, backend.ErrNotFound) {
		return &NotFoundError{err}
	}
	e, ok := errors.AsType[*backend.Error](err)
	if !ok || e.Status/100 == 2 || e.Status == 0 {
		return err
	}
	rpc := &RPCError{Method: e.Op, Code: e.Status, Message: e.Message, AppCode: e.Code, err: err}
	switch e.Status {
	case http.StatusForbidden:
		return &PermissionDeniedError{rpc}
	case http.StatusNotFound:
		return &NotFoundError{rpc}
	}
	return rpc
}

// refused is the most specific type of an answer to an RPC call.
func refused(e *RPCError) error {
	switch e.AppCode {
	case "BillingModeMismatch":
		var d struct{ Expected, Got BillingMode }
		if json.Unmarshal(e.Details, &d) == nil && d.Expected.Valid() && d.Got.Valid() {
			return &BillingModeMismatchError{Expected: d.Expected, Got: d.Got, rpc: e}
		}
	case "InsufficientBalance":
		var d struct{ Required, Available string }
		_ = json.Unmarshal(e.Details, &d) // the amounts are a help, not a condition
		return &InsufficientBalanceError{Required: d.Required, Available: d.Available, rpc: e}
	case "PermissionDenied":
		return &PermissionDeniedError{e}
	case "AgentNotFound", "TaskNotFound":
		return &NotFoundError{e}
	}
	return e
}

// temporary reports whether the same request may succeed later: nothing was answered, or the network is overloaded.
func temporary(err error) bool {
	if e, ok := errors.AsType[*AuthRefreshFailedError](err); ok {
		err = e.Cause // and not the refusal that called for a new token
	}
	if e, ok := errors.AsType[*link.StatusError](err); ok {
		return e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests || e.Status >= 500
	}
	if e, ok := errors.AsType[*backend.Error](err); ok {
		return e.Temporary()
	}
	if _, ok := errors.AsType[*backend.RPCError](err); ok {
		return false
	}
	return true
}
