package client

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"log/slog"
	"net/http"

	"github.com/blocksd/blocksd/network/wire"
)

type Config struct {
	CDMURL, BackendURL, APIKey, PubNubOrigin string
	Log                                      *slog.Logger
	HTTP                                     *http.Client
}
type TaskClient struct{}

func New(ctx context.Context, cfg Config) (*TaskClient, error) { panic("not written yet") }
func (c *TaskClient) Close()                                   { panic("not written yet") }

type Request struct {
	AgentName       string
	Parts           []Part
	Kind            wire.TaskKind
	DurationMinutes int
	Stream          *bool
	IdempotencyKey  string
}
type Part struct {
	ID             string
	Text           *string
	JSON           json.RawMessage
	Path           string
	Name, MIMEType string
	Data           []byte
}
type Session struct{}

func (c *TaskClient) Submit(ctx context.Context, r Request) (*Session, error) {
	panic("not written yet")
}
func (c *TaskClient) Attach(ctx context.Context, taskID string) (*Session, error) {
	panic("not written yet")
}
func (s *Session) TaskID() string   { panic("not written yet") }
func (s *Session) Queued() bool     { panic("not written yet") }
func (s *Session) Idempotent() bool { panic("not written yet") }

type Event struct {
	wire.Event
	Timetoken string
}

func (s *Session) Events(ctx context.Context) iter.Seq2[Event, error] { panic("not written yet") }
func (s *Session) Wait(ctx context.Context) (wire.Event, error)       { panic("not written yet") }
func (s *Session) Cancel(ctx context.Context) error                   { panic("not written yet") }
func (s *Session) Close()                                             { panic("not written yet") }
func (s *Session) Download(ctx context.Context, ref wire.ArtifactRef) (io.ReadCloser, error) {
	panic("not written yet")
}
func (s *Session) Save(ctx context.Context, dir string) ([]string, error) { panic("not written yet") }
