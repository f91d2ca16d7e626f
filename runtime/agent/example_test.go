package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/agent"
)

// A program that serves an agent with a Go function instead of handler processes.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	c, err := card.Load("agent-card.json")
	if err != nil {
		slog.Error(err.Error())
		return
	}
	cdm, err := backend.FetchCDM(ctx, nil, backend.DefaultCDMURL)
	if err != nil {
		slog.Error(err.Error())
		return
	}
	api, err := backend.New(backend.Config{BaseURL: cdm.BaseURL})
	if err != nil {
		slog.Error(err.Error())
		return
	}
	shout := func(ctx context.Context, task *wire.Task, port wire.TaskPort) error {
		if len(task.Parts) == 0 || task.Parts[0].Text == nil {
			return &wire.TaskFailure{Kind: wire.HandlerError, Public: "The task has no text to shout."}
		}
		port.Status("taking a deep breath")
		return port.Artifact(ctx, wire.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte(*task.Parts[0].Text + "!")})
	}
	a, err := agent.New(agent.Config{
		Card: c, Handler: "shout", Dispatcher: agent.NewFuncDispatcher(shout),
		APIKey: os.Getenv("BLOCKS_API_KEY"), Backend: api, CDM: cdm, Origin: "ps.pndsn.com", Secure: true,
		Drain: 30 * time.Second, Log: slog.Default(),
	})
	if err != nil {
		slog.Error(err.Error())
		return
	}
	if err := a.Run(ctx); errors.Is(err, agent.ErrFinal) {
		slog.Error(err.Error())
	}
}
