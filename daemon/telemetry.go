package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/blocksd/blocksd/daemon/metrics"
	"github.com/blocksd/blocksd/daemon/tracing"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/runtime/agent"
)

// telemetry is what monitoring gets, where somebody has asked for it.
type telemetry struct {
	log      *slog.Logger
	tracer   *tracing.Tracer  // nil when tasks are not traced
	metrics  *metrics.Metrics // nil, like its listener, when nobody may ask for them
	listener net.Listener
}

func openTelemetry(cfg Config, events *event.Bus, snapshot func() metrics.Snapshot) (t *telemetry, err error) {
	t = &telemetry{log: cfg.Log}
	want := cfg.Settings.Telemetry
	if want.Traces != "" {
		if t.tracer, err = openTraces(cfg, events); err != nil {
			return nil, fmt.Errorf("prepare the traces of tasks: %w: correct that, or leave telemetry.traces out", err)
		}
	}
	if want.Listen == "" {
		return t, nil
	}
	if t.listener, err = metrics.Listen(context.Background(), want.Listen); err != nil {
		return nil, errors.Join(err, t.close())
	}
	if t.metrics, err = metrics.New(metrics.Config{Version: cfg.Version, Events: events, Snapshot: snapshot, Log: cfg.Log}); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// openTraces prepares the traces of tasks. Nobody has to be there yet who takes them.
func openTraces(cfg Config, events *event.Bus) (*tracing.Tracer, error) {
	headers, err := tracing.Headers(cfg.Getenv("OTEL_EXPORTER_OTLP_HEADERS"))
	if err != nil {
		return nil, err
	}
	return tracing.New(tracing.Config{
		Endpoint: cfg.Settings.Telemetry.Traces, Headers: headers, Service: cmp.Or(cfg.Getenv("OTEL_SERVICE_NAME"), "blocksd"), Version: cfg.Version,
		Events: events, Log: cfg.Log,
	})
}

// close is for telemetry that was not run.
func (t *telemetry) close() (err error) {
	if t.tracer != nil {
		t.tracer.Close()
	}
	if t.metrics != nil {
		t.metrics.Close()
	}
	if t.listener != nil {
		err = t.listener.Close()
	}
	return err
}

// run serves metrics and sends traces until ctx ends. A listener that fails is said, and hinders nothing else.
func (t *telemetry) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	if t.tracer != nil {
		all.Go(func() { t.tracer.Run(ctx) })
	}
	if t.metrics == nil {
		return
	}
	t.log.Info("metrics are served", "listen", t.listener.Addr().String())
	all.Go(func() { _ = t.metrics.Run(ctx) })
	if err := t.metrics.Serve(ctx, t.listener); err != nil {
		t.log.Error("metrics are not served any more; all else goes on", "err", err)
	}
}

// committed counts a write of the journal, if somebody counts.
func (t *telemetry) committed(took time.Duration) {
	if t.metrics != nil {
		t.metrics.Committed(took)
	}
}

// meters are what agents tell how long things take.
func (t *telemetry) meters() (m agent.Meters) {
	if t.metrics != nil {
		m = agent.Meters{Published: t.metrics.Published, Delivered: t.metrics.Delivered, Streamed: t.metrics.Streamed}
	}
	if counted := m.Delivered; t.tracer != nil {
		m.Delivered = func(agent, taskID string, took, total time.Duration) {
			t.tracer.Delivered(taskID)
			if counted != nil {
				counted(agent, taskID, took, total)
			}
		}
	}
	return m
}
