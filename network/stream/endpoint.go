package stream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// Endpoint is one side of one stream on the network. A Writer and a Reader of a bidirectional stream share one.
type Endpoint struct {
	// Link may be shared by all streams of a keyset: user id and token go with each request.
	Link    *link.Link
	Channel string
	// UserID names this side; see UserIDs.
	UserID string
	// Token permits this side of the stream. It is asked for each request, so it may change.
	Token func() string
}

func (e Endpoint) check(format wire.StreamFormat) error {
	switch {
	case e.Link == nil || e.Channel == "" || e.UserID == "" || e.Token == nil:
		return errors.New("the endpoint needs a link, a channel, a user id and a token")
	case !format.Valid():
		return fmt.Errorf("format %q is neither bytes nor events", format)
	}
	return nil
}

// publish sends one message, once.
func (e Endpoint) publish(ctx context.Context, token string, meta, body []byte) error {
	_, err := e.Link.PublishOnce(ctx, link.Message{Channel: e.Channel, UserID: e.UserID, Token: token, Meta: meta, Body: body})
	return err
}

// replay is the cursor before everything that the network still has of a channel.
const replay = "1000"

// subscribe receives from what the network still has on.
func (e Endpoint) subscribe(ctx context.Context, c link.SubscribeConfig, filter bool, handle func(link.Received)) error {
	c.Channels, c.UserID, c.Cursor, c.Token = []string{e.Channel}, e.UserID, replay, e.Token
	if filter {
		c.Filter = wire.StreamFilter(e.UserID)
	}
	return e.Link.Subscribe(ctx, c, handle)
}

// UserIDs makes the user ids of the streams of one process.
type UserIDs struct{ n atomic.Int64 }

// Next returns PREFIX-stream-NNNN-XXXXXXXX. The prefix is the agent's name or the owner of the consumer's session; it is
// cut where the id would be too long, and what a filter cannot quote is left out.
func (u *UserIDs) Next(prefix string) string {
	var random [4]byte
	rand.Read(random[:]) // never fails
	suffix := fmt.Sprintf("-stream-%04d-%s", u.n.Add(1), hex.EncodeToString(random[:]))
	safe := make([]byte, 0, len(prefix))
	for _, c := range []byte(prefix) {
		if c > ' ' && c < 0x7f && c != '\'' && c != '"' && c != '\\' {
			safe = append(safe, c)
		}
	}
	if room := wire.MaxUserIDBytes - len(suffix); len(safe) > room {
		safe = safe[:room]
	}
	return string(safe) + suffix
}
