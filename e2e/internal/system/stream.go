package system

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Stream is a live stream as its consumer knows it.
type Stream struct{ Name, ID, Direction, Format, Affinity, Channel, Token string }

// SubmitStreaming sends a task that wants streams; with minutes it is a pipe task.
func (c *Consumer) SubmitStreaming(ctx context.Context, agent, text string, minutes int) (Submitted, error) {
	extension := map[string]any{"stream": true}
	if minutes > 0 {
		extension["taskKind"], extension["duration"] = "pipe", minutes
	}
	return c.submit(ctx, agent, text, map[string]any{"blocks": extension})
}

// Streams returns the streams of a task that have been announced, by their names.
func (c *Consumer) Streams(ctx context.Context, s Submitted) (map[string]Stream, error) {
	var answer struct {
		Channels map[string][]struct {
			Message struct {
				StreamEvent, DeclaredStream string
				Streams                     map[string]Stream
			}
		}
	}
	u := fmt.Sprintf("%s/v3/history/sub-key/%s/channel/%s?max=100&uuid=consumer&auth=%s", c.origin, c.subscribe, url.PathEscape(s.Channel), url.QueryEscape(s.Token))
	if err := Exchange(ctx, c.http, http.MethodGet, u, "", nil, &answer); err != nil {
		return nil, fmt.Errorf("streams of task %s: %w", s.ID, err)
	}
	all := map[string]Stream{}
	for _, stored := range answer.Channels {
		for _, e := range stored {
			for id, stream := range e.Message.Streams {
				stream.Name, stream.ID = e.Message.DeclaredStream, id
				all[stream.Name] = stream
			}
		}
	}
	return all, nil
}

// StreamMessage is one message of a stream. Those of several pieces are left as they are.
type StreamMessage struct {
	Type     string
	Seq      int64
	Encoding string
	Chunks   []string
	Events   []json.RawMessage
	Failure  string
}

// Text is what the chunks or events are, together.
func (m StreamMessage) Text() (all string) {
	for _, c := range m.Chunks {
		if m.Encoding == "base64" {
			b, _ := base64.StdEncoding.DecodeString(c)
			c = string(b)
		}
		all += c
	}
	for _, e := range m.Events {
		all += string(e)
	}
	return all
}

// ReadStream passes the messages of a stream on as they come, from the first one that the network still has, until each
// returns false.
func (c *Consumer) ReadStream(ctx context.Context, s Stream, each func(StreamMessage) bool) error {
	for cursor := "1000"; ; {
		var answer struct {
			T struct{ T string }
			M []struct{ D StreamMessage }
		}
		u := fmt.Sprintf("%s/v2/subscribe/%s/%s/0?tt=%s&uuid=reader&auth=%s", c.origin, c.subscribe, url.PathEscape(s.Channel), cursor, url.QueryEscape(s.Token))
		if err := Exchange(ctx, c.http, http.MethodGet, u, "", nil, &answer); err != nil {
			return fmt.Errorf("read stream %s: %w", s.ID, err)
		}
		cursor = answer.T.T
		for _, m := range answer.M {
			if !each(m.D) {
				return nil
			}
		}
	}
}

// WriteStream publishes one message on a stream.
func (c *Consumer) WriteStream(ctx context.Context, s Stream, message any) error {
	meta := url.QueryEscape(`{"sender":"writer","protocolVersion":"2026-05-01"}`)
	u := fmt.Sprintf("%s/publish/%s/%s/0/%s/0?store=0&meta=%s&uuid=writer&auth=%s", c.origin, c.publish, c.subscribe, url.PathEscape(s.Channel), meta, url.QueryEscape(s.Token))
	var answer json.RawMessage
	if err := Exchange(ctx, c.http, http.MethodPost, u, "", message, &answer); err != nil {
		return fmt.Errorf("write stream %s: %w", s.ID, err)
	}
	return nil
}

// CancelTask asks a task to end.
func (c *Consumer) CancelTask(ctx context.Context, s Submitted) error {
	bearer, err := c.bearer(ctx)
	if err != nil {
		return err
	}
	var answer struct{ Error json.RawMessage }
	err = Exchange(ctx, c.http, http.MethodPost, c.base+"/api/v1/rpc", bearer, map[string]any{
		"jsonrpc": "2.0", "id": "1", "method": "CancelTask", "params": map[string]any{"taskId": s.ID},
	}, &answer)
	if err == nil && answer.Error != nil {
		err = fmt.Errorf("cancel task %s: %s", s.ID, answer.Error)
	}
	return err
}
