package backend

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/blocksd/blocksd/network/wire"
)

type Client struct{ cfg Config }

func New(cfg Config) (*Client, error) { panic("not written yet") }

type CDM struct {
	Playground, Network             wire.Keyset
	BaseURL, ClientID, PubNubOrigin string
}

const DefaultCDMURL = "https://config.blocks.ai/config.json"

func (c CDM) Keyset(m wire.BillingMode) wire.Keyset { panic("not written yet") }
func FetchCDM(ctx context.Context, hc *http.Client, url string) (CDM, error) {
	panic("not written yet")
}

type Error struct {
	Op, Object    string
	Status        int
	Code, Message string
}

func (e *Error) Error() string   { panic("not written yet") }
func (e *Error) Final() bool     { panic("not written yet") }
func (e *Error) Temporary() bool { panic("not written yet") }

var ErrNotFound = errors.New("not found")

type Agent struct {
	Name, DisplayName, Description, Listing string
	BillingMode                             wire.BillingMode
	Card                                    json.RawMessage
}

func (c *Client) Agent(ctx context.Context, bearer, name string) (Agent, error) {
	panic("not written yet")
}

type ConnectRequest struct {
	AgentName, InstanceID                string
	BillingMode                          wire.BillingMode
	Listing                              string
	ExpectedInstances, Concurrency       int
	MaxPendingBacklog, MaxRunningTimeSec *int
	SDKVersion                           string
}
type Grant struct{ AgentID, ControlChannel, PAMToken string }
type AgentSession struct{}

func (c *Client) NewAgentSession(apiKey string, req ConnectRequest) *AgentSession {
	panic("not written yet")
}
func (s *AgentSession) Connect(ctx context.Context) (Grant, error) { panic("not written yet") }
func (s *AgentSession) UploadOutput(ctx context.Context, u Upload) (wire.ArtifactRef, error) {
	panic("not written yet")
}

type Upload struct {
	TaskID, OutputID, AgentName, PartID, SessionID string
	FileName, MIMEType                             string
	Size                                           int64
	Open                                           func() (io.ReadCloser, error)
}

type Consumer struct{}

func (c *Client) NewConsumer(apiKey string) *Consumer { panic("not written yet") }
func (s *Consumer) UserID(ctx context.Context) (string, error) {
	panic("not written yet")
}
func (s *Consumer) Agent(ctx context.Context, name string) (Agent, error) { panic("not written yet") }
func (s *Consumer) SendMessage(ctx context.Context, r SendRequest) (SendResult, error) {
	panic("not written yet")
}

type SendRequest struct {
	AgentName                                string
	BillingMode                              wire.BillingMode
	Parts                                    []wire.Part
	OwnerID, IdempotencyKey, UploadSessionID string
	Stream                                   *bool
	Kind                                     wire.TaskKind
	DurationMinutes                          int
	ConsumerPublicKey                        string
}
type SendResult struct {
	TaskID, OrgID      string
	Idempotent, Queued bool
	State              wire.TaskState
	ReadToken, Channel string
	Keys               wire.Keyset
}
type TaskRow struct {
	TaskID, AgentName, Owner string
	State                    wire.TaskState
	CreatedTime, UpdatedTime string
	Raw                      json.RawMessage
}
type ListFilter struct {
	OwnerID, AgentName string
	State              wire.TaskState
	Limit              int
	Cursor             string
}

func (s *Consumer) GetTask(ctx context.Context, taskID string) (TaskRow, error) {
	panic("not written yet")
}
func (s *Consumer) ListTasks(ctx context.Context, f ListFilter) ([]TaskRow, string, error) {
	panic("not written yet")
}
func (s *Consumer) CancelTask(ctx context.Context, taskID string) error    { panic("not written yet") }
func (s *Consumer) TerminateTask(ctx context.Context, taskID string) error { panic("not written yet") }

type ReadToken struct {
	Token, Channel string
	TTLMinutes     int
}

func (s *Consumer) TaskReadToken(ctx context.Context, taskID string) (ReadToken, error) {
	panic("not written yet")
}
func (s *Consumer) UploadInput(ctx context.Context, u Upload) (uploadSessionID string, err error) {
	panic("not written yet")
}

type RPCError struct {
	Method           string
	Code             int
	AppCode, Message string
	Details          json.RawMessage
}

func (e *RPCError) Error() string { panic("not written yet") }
