package backend

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/blocksd/blocksd/network/wire"
)

// RPCError is a call that the network understood and refused.
type RPCError struct {
	Method string
	// Code is the number of JSON-RPC; -32000 is an application error, of which AppCode says more, as "InsufficientBalance".
	Code             int
	AppCode, Message string
	// Details is the object that comes with some codes, nil for none.
	Details json.RawMessage
	// Data is the whole object that came with the error, nil for none.
	Data json.RawMessage
}

func (e *RPCError) Error() string {
	text := strings.TrimRight(e.Message, ". ")
	if text == "" {
		text = fmt.Sprintf("error %d without a text", e.Code)
	}
	s := fmt.Sprintf("%s was refused by the network: %s", e.Method, wire.CutText(text, 300))
	if e.AppCode != "" {
		s += " (" + wire.CutText(e.AppCode, 64) + ")"
	}
	return s
}

// staleCredential are the codes that call for a new token like status 401 does.
func staleCredential(code string) bool {
	switch code {
	case "EMBEDDED_JWT_REVOKED", "EMBEDDED_JWT_LOGOUT", "EMBEDDED_JWT_KILLED", "EMBEDDED_JWT_SCOPE_DRIFT", "AGENT_OUT_OF_SCOPE":
		return true
	}
	return false
}

// rpc makes one JSON-RPC call. All our methods may be repeated: SendMessage always carries an idempotency key.
func (s *Consumer) rpc(ctx context.Context, method, object string, params any, result any) error {
	a := s.client.rpcCall(method, object, params)
	a.header = s.cfg.Header
	body, err := s.call(ctx, a, func(body []byte) error {
		_, refused, err := decodeRPC(a, body)
		if err != nil || refused == nil || !staleCredential(refused.AppCode) {
			return nil
		}
		refused.Method = method
		return refused
	})
	if err != nil {
		return err
	}
	return rpcResult(a, body, result)
}

func (c *Client) rpcCall(method, object string, params any) apiCall {
	return apiCall{op: method, object: object, method: http.MethodPost, path: "/api/v1/rpc", body: struct {
		JSONRPC string `json:"jsonrpc"`
		ID      string `json:"id"` // one per call: repetitions are byte for byte the same
		Method  string `json:"method"`
		Params  any    `json:"params"`
	}{"2.0", fmt.Sprintf("rpc-%d-%s", c.now().UnixMilli(), randomHex(4)), method, params}}
}

// rpcResult reads an answer into result, or returns the error in it.
func rpcResult(a apiCall, body []byte, result any) error {
	value, refused, err := decodeRPC(a, body)
	switch {
	case err != nil:
		return err
	case refused != nil:
		refused.Method = a.op
		return refused
	case result == nil:
		return nil
	}
	return decode(a, value, result)
}

// decodeRPC reads an answer: its result, or the error in it.
func decodeRPC(a apiCall, body []byte) (result json.RawMessage, refused *RPCError, err error) {
	var o struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := decode(a, body, &o); err != nil {
		return nil, nil, err
	}
	switch string(o.Error) {
	case "", "null", "false", "0", `""`:
		return o.Result, nil, nil
	}
	refused = &RPCError{}
	var e struct{ Code, Message, Data json.RawMessage }
	if json.Unmarshal(o.Error, &e) != nil {
		_ = json.Unmarshal(o.Error, &refused.Message) // some write a text where the object belongs
		return nil, refused, nil
	}
	_ = json.Unmarshal(e.Code, &refused.Code)
	_ = json.Unmarshal(e.Message, &refused.Message)
	var data struct{ Code, Message, Details json.RawMessage }
	if json.Unmarshal(e.Data, &data) == nil && len(e.Data) > 0 && string(e.Data) != "null" {
		refused.Data = e.Data
		_ = json.Unmarshal(data.Code, &refused.AppCode)
		var text string
		if json.Unmarshal(data.Message, &text) == nil && text != "" {
			refused.Message = text
		}
		if string(data.Details) != "null" {
			refused.Details = data.Details
		}
	}
	return nil, refused, nil
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
