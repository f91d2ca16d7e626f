package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
)

// Connect returns a session for a task that was sent before, by this client or another, whether it still runs or has
// ended.
func (c *Client) Connect(ctx context.Context, taskID string, options ...Option) (*Session, error) {
	fail := func(err error) (*Session, error) {
		return nil, fmt.Errorf("connect to task %s: %w", taskID, translate(err))
	}
	if taskID == "" {
		return fail(errors.New("there is no task id"))
	}
	s := c.newSession(options)
	if c.consumer.IsAnonymous() && s.role != "" {
		return fail(errors.New("a visitor without an account cannot connect as the provider: leave AsProvider out"))
	}
	row, err := c.consumer.GetTask(ctx, taskID)
	if err != nil {
		return fail(err)
	}
	s.taskID, s.agent, s.returned = taskID, row.AgentName, true
	if row.State.Final() {
		s.known = row.State
	}
	if err := s.renewToken(ctx); err != nil {
		return fail(err)
	}
	mode, err := c.mode(ctx, row.AgentName)
	if errors.Is(err, backend.ErrNotFound) {
		// The agent is not registered any more, so nothing names the keyset; the token is valid for only one of the two.
		mode, err = c.probe(ctx, s)
	}
	if err != nil {
		return fail(err)
	}
	if s.link, err = c.link(c.keyset(mode)); err != nil {
		return fail(err)
	}
	if err := c.add(s); err != nil {
		return fail(err)
	}
	return s, nil
}

// probe finds the keyset for which the session's token is valid.
func (c *Client) probe(ctx context.Context, s *Session) (BillingMode, error) {
	var err error
	for _, mode := range []BillingMode{Free, Paid} {
		var l *link.Link
		if l, err = c.link(c.keyset(mode)); err != nil {
			return "", err
		}
		if _, err = l.History(ctx, s.channel, s.currentToken(), ""); err == nil {
			return mode, nil
		}
		if e, ok := errors.AsType[*link.StatusError](err); !ok || e.Status != http.StatusForbidden {
			return "", err
		}
	}
	return "", err
}
