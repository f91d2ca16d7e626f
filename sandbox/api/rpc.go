package api

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

// call is one RPC request.
type call struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

// rpc serves the gateway. Status 401 is for credentials only; every other failure has status 200 and an error object,
// because clients discard the bodies of other answers. A result is never null where clients cannot handle that.
func (s *Server) rpc(w http.ResponseWriter, r *http.Request) {
	var c call
	if err := read(r, &c); err != nil {
		var e *blocks.Error
		if errors.As(err, &e) {
			e.RPC = blocks.RPCInvalidRequest
		}
		s.fail(w, r, c, err)
		return
	}
	if c.Method == "" {
		s.fail(w, r, c, &blocks.Error{RPC: blocks.RPCInvalidRequest, Code: "InvalidRequest", Message: "The request has no method."})
		return
	}
	var p *blocks.Principal
	// An anonymous consumer may look at a task; everything else needs credentials.
	if bearer(r) != "" || c.Method != "GetTask" {
		var err error
		if p, err = s.byToken(r); err != nil {
			s.refuse(w, r, err)
			return
		}
	}
	result, after, err := s.call(p, c)
	if err != nil {
		s.fail(w, r, c, err)
		return
	}
	answer(w, http.StatusOK, struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Result  any             `json:"result"`
	}{"2.0", c.id(), result})
	if after != nil {
		// The submitter has its answer before the task goes out.
		_ = http.NewResponseController(w).Flush() // the task of a client that disconnected is submitted anyway
		after()
	}
}

func (c call) id() json.RawMessage {
	if len(c.ID) == 0 {
		return json.RawMessage("null")
	}
	return c.ID
}

// fail answers with an error object. Its data is always an object: clients cannot handle anything else.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, c call, err error) {
	var e *blocks.Error
	if !errors.As(err, &e) {
		s.log.Error("call failed", "method", c.Method, "err", err)
		e = &blocks.Error{RPC: blocks.RPCApplication, Code: "Internal", Message: "The sandbox failed to handle the call."}
	}
	if e.Status == http.StatusUnauthorized {
		s.refuse(w, r, e)
		return
	}
	data := map[string]any{"code": e.Code, "message": e.Message}
	if e.Details != nil {
		data["details"] = e.Details
	}
	answer(w, http.StatusOK, map[string]any{
		"jsonrpc": "2.0", "id": c.id(), "error": map[string]any{"code": e.RPC, "message": e.Message, "data": data},
	})
}

// call runs a method. after, if not nil, is to be called when the answer is out.
func (s *Server) call(p *blocks.Principal, c call) (result any, after func(), err error) {
	switch c.Method {
	case "SendMessage":
		return s.sendMessage(p, c)
	case "ListTasks":
		result, err = s.listTasks(p, c)
		return result, nil, err
	}
	var params struct {
		TaskID string `json:"taskId"`
	}
	var act func(*blocks.Principal, string) error
	switch c.Method {
	case "GetTask":
	case "CancelTask":
		act = s.blocks.Cancel
	case "TerminateTask":
		act = s.blocks.Terminate
	case "PauseTask", "ResumeTask", "RetryTask":
		act = func(p *blocks.Principal, id string) error {
			return s.blocks.Signal(p, id, wire.ControlType(c.Method))
		}
	default:
		return nil, nil, &blocks.Error{RPC: blocks.RPCUnknownMethod, Code: "MethodNotFound", Message: "There is no method " + wire.CutText(c.Method, 64) + "."}
	}
	if err := decode(c.Params, &params); err != nil {
		return nil, nil, err
	}
	if params.TaskID == "" {
		return nil, nil, blocks.InvalidParams("taskId is required.")
	}
	if act != nil {
		if err := act(p, params.TaskID); err != nil {
			return nil, nil, err
		}
	}
	row, err := s.blocks.GetTask(p, params.TaskID)
	if err != nil {
		return nil, nil, err
	}
	return map[string]taskBody{"task": taskOf(row)}, nil, nil
}

func decode(params json.RawMessage, v any) error {
	if len(params) == 0 {
		return nil
	}
	if err := json.Unmarshal(params, v); err != nil {
		return blocks.InvalidParams("The params are invalid: %s.", blocks.DescribeJSONError(err))
	}
	return nil
}

// taskBody is the row of a task.
type taskBody struct {
	TaskID      string         `json:"taskId"`
	AgentName   string         `json:"agentName"`
	Owner       string         `json:"owner"`
	OrgID       string         `json:"orgId"`
	State       wire.TaskState `json:"state"`
	TaskKind    wire.TaskKind  `json:"taskKind"`
	CreatedTime string         `json:"createdTime"`
	UpdatedTime string         `json:"updatedTime"`
}

func taskOf(t blocks.TaskRow) taskBody {
	return taskBody{t.TaskID, t.AgentName, t.Owner, t.OrgID, t.State, t.Kind, timeText(t.Created), timeText(t.Updated)}
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// sendParams of SendMessage. Unknown members are ignored.
type sendParams struct {
	AgentName       string           `json:"agentName"`
	BillingMode     wire.BillingMode `json:"billingMode"`
	RequestParts    json.RawMessage  `json:"requestParts"`
	OwnerID         string           `json:"ownerId"`
	IdempotencyKey  string           `json:"idempotencyKey"`
	UploadSessionID string           `json:"uploadSessionId"`
	Extensions      struct {
		Blocks struct {
			Stream            *bool           `json:"stream"`
			TaskKind          wire.TaskKind   `json:"taskKind"`
			Duration          json.RawMessage `json:"duration"`
			ConsumerPublicKey string          `json:"consumerPublicKey"`
		} `json:"blocks"`
	} `json:"extensions"`
}

// request checks the params of SendMessage.
func (ps *sendParams) request() (blocks.SendRequest, error) {
	x := ps.Extensions.Blocks
	req := blocks.SendRequest{
		AgentName: ps.AgentName, BillingMode: ps.BillingMode, OwnerID: ps.OwnerID, IdempotencyKey: ps.IdempotencyKey,
		UploadSessionID: ps.UploadSessionID, Kind: x.TaskKind, Stream: x.Stream != nil && *x.Stream, ConsumerPublicKey: x.ConsumerPublicKey,
	}
	if req.AgentName == "" {
		return req, blocks.InvalidParams("agentName is required.")
	}
	if !req.BillingMode.Valid() {
		return req, blocks.InvalidParams("billingMode must be free or paid.")
	}
	var err error
	if req.Parts, err = parts(ps.RequestParts); err != nil {
		return req, err
	}
	hasDuration := len(x.Duration) > 0 && string(x.Duration) != "null"
	switch req.Kind {
	case wire.Request, "":
		req.Kind = wire.Request
		if hasDuration {
			return req, blocks.InvalidParams("duration is for pipe tasks only.")
		}
	case wire.Pipe:
		var minutes float64
		if !hasDuration || json.Unmarshal(x.Duration, &minutes) != nil || minutes != math.Trunc(minutes) || minutes < 1 || minutes > wire.MaxPipeMinutes {
			return req, blocks.InvalidParams("duration of a pipe task must be a whole number of minutes from 1 to %d.", wire.MaxPipeMinutes)
		}
		req.Minutes = int(minutes)
	default:
		return req, blocks.InvalidParams("taskKind must be request or pipe.")
	}
	return req, nil
}

func (s *Server) sendMessage(p *blocks.Principal, c call) (any, func(), error) {
	var params sendParams
	if err := decode(c.Params, &params); err != nil {
		return nil, nil, err
	}
	req, err := params.request()
	if err != nil {
		return nil, nil, err
	}
	res, dispatch, err := s.blocks.SendMessage(p, req)
	if err != nil {
		return nil, nil, err
	}
	type blocks struct {
		ReadToken      string            `json:"readToken"`
		SubscribeKey   string            `json:"subscribeKey"`
		PublishKey     string            `json:"publishKey"`
		StreamChannels map[string]string `json:"streamChannels"`
	}
	return struct {
		TaskID     string            `json:"taskId"`
		OrgID      string            `json:"orgId"`
		Idempotent bool              `json:"idempotent"`
		Queued     bool              `json:"queued"`
		State      wire.TaskState    `json:"state"`
		Extensions map[string]blocks `json:"extensions"`
	}{res.TaskID, res.OrgID, res.Idempotent, res.Queued, res.State, map[string]blocks{
		"blocks": {res.ReadToken, res.Keys.SubscribeKey, res.Keys.PublishKey, map[string]string{"status": res.Channel}},
	}}, dispatch, nil
}

func (s *Server) listTasks(p *blocks.Principal, c call) (any, error) {
	var params struct {
		OwnerID   string         `json:"ownerId"`
		AgentName string         `json:"agentName"`
		State     wire.TaskState `json:"state"`
		Limit     int            `json:"limit"`
		Cursor    string         `json:"cursor"`
	}
	if err := decode(c.Params, &params); err != nil {
		return nil, err
	}
	page, next, total, err := s.blocks.ListTasks(p, blocks.ListFilter{
		OwnerID: params.OwnerID, AgentName: params.AgentName, State: params.State, Limit: params.Limit, Cursor: params.Cursor,
	})
	if err != nil {
		return nil, err
	}
	body := struct {
		Tasks      []taskBody `json:"tasks"`
		Next       *string    `json:"next"`
		TotalCount int        `json:"totalCount"`
	}{Tasks: []taskBody{}, TotalCount: total}
	for _, row := range page {
		body.Tasks = append(body.Tasks, taskOf(row))
	}
	if next != "" {
		body.Next = &next
	}
	return body, nil
}
