package link

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

type Config struct {
	Origin    string
	Secure    bool
	Keys      wire.Keyset
	UserID    string
	Log       *slog.Logger
	Transport http.RoundTripper
	Now       func() time.Time
	Jitter    func() float64
	Timeouts  Timeouts
}
type Timeouts struct {
	Request, Poll, Leave, BackoffStart, BackoffCap time.Duration
}
type Link struct{}

func New(cfg Config) (*Link, error)   { panic("not written yet") }
func (l *Link) Close()                { panic("not written yet") }
func (l *Link) SetToken(token string) { panic("not written yet") }

type Message struct {
	Channel, Token string
	Meta, Body     []byte
	Store          bool
}

func (l *Link) Publish(ctx context.Context, m Message) (timetoken string, err error) {
	panic("not written yet")
}

type StatusError struct {
	Op, Channel string
	Status      int
	Body        []byte
}

func (e *StatusError) Error() string                     { panic("not written yet") }
func (l *Link) Time(ctx context.Context) (string, error) { panic("not written yet") }

type Stored struct {
	Body, Meta           json.RawMessage
	Timetoken, Publisher string
}

func (l *Link) History(ctx context.Context, channel, token string, after string) ([]Stored, error) {
	panic("not written yet")
}
func (l *Link) OpenFile(ctx context.Context, channel, fileID, fileName, token string) (io.ReadCloser, int64, error) {
	panic("not written yet")
}

type Received struct {
	Channel, Timetoken, Publisher string
	Body, Meta                    json.RawMessage
}
type State int

const (
	Connecting State = iota + 1
	Connected
	Lost
	Denied
)

type SubscribeConfig struct {
	Channels  []string
	Filter    string
	Heartbeat time.Duration
	Cursor    string
	Token     func() string
	State     func() []byte
	OnState   func(State, error)
	OnDenied  func(ctx context.Context) error
}

func (l *Link) Subscribe(ctx context.Context, c SubscribeConfig, handle func(Received)) error {
	panic("not written yet")
}

type Presence struct{}

func (l *Link) NewPresence(channel string, timeout, interval time.Duration) *Presence {
	panic("not written yet")
}
func (p *Presence) Run(ctx context.Context) error         { panic("not written yet") }
func (p *Presence) Set(state []byte)                      { panic("not written yet") }
func (p *Presence) Resync()                               { panic("not written yet") }
func (p *Presence) Leave(ctx context.Context) error       { panic("not written yet") }
func (p *Presence) Acknowledged() (state []byte, ok bool) { panic("not written yet") }
func (p *Presence) WaitFirst(ctx context.Context) error   { panic("not written yet") }
