package backend

import (
	"context"
	"errors"
	"net/http"
)

// Agent reads a registry entry as this consumer sees it. The registry does not refuse an expired token but treats its
// bearer as anybody, so a private agent that is not found is looked up again with a new token.
func (s *Consumer) Agent(ctx context.Context, name string) (agent Agent, err error) {
	err = s.asBearer(ctx, func(bearer string) (err error) {
		agent, err = s.client.Agent(ctx, bearer, name)
		return err
	})
	return agent, err
}

// Agents searches the registry as this consumer sees it.
func (s *Consumer) Agents(ctx context.Context, q AgentQuery) (list AgentList, err error) {
	err = s.asBearer(ctx, func(bearer string) (err error) {
		list, err = s.client.Agents(ctx, bearer, q)
		return err
	})
	return list, err
}

// Instances asks who serves an agent; there may be nobody.
func (s *Consumer) Instances(ctx context.Context, name string) (list []Instance, err error) {
	err = s.asBearer(ctx, func(bearer string) (err error) {
		list, err = s.client.Instances(ctx, bearer, name)
		return err
	})
	return list, err
}

// asBearer reads something with the token, and again with a new one if the first is refused or shows nothing.
func (s *Consumer) asBearer(ctx context.Context, read func(bearer string) error) error {
	t, err := s.ready(ctx)
	if err != nil {
		return err
	}
	err = read(t.Access)
	e, refused := errors.AsType[*Error](err)
	if s.source == nil || !errors.Is(err, ErrNotFound) && (!refused || e.Status != http.StatusUnauthorized) {
		return err
	}
	if err := s.react(ctx, t.Access, err); err != nil {
		return err
	}
	return read(s.current().Access)
}
