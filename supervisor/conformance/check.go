// Package conformance looks whether a program keeps the handler contract: it starts it as a daemon does, gives it tasks,
// cancels them, and stops it, without a daemon and without a network.
package conformance

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Report is what a handler program turned out to be.
type Report struct {
	Path, SHA256       string
	Name, Version, SDK string
	// Described: it says itself what it is; otherwise it needs a card file.
	Described bool
	// Cancel: it understands that a task is to end. Idempotent: a task may be repeated.
	Cancel, Idempotent bool
	Agents             []card.Card
	// Start is how long it took to get ready, Stop to end after it was asked to.
	Start, Stop time.Duration
	// CardPath is the card in a file, "" when there is none. It counts more than what the program says of itself.
	CardPath string
	// Isolation is the level of the walls around it, IsolationOpen what they do not keep, one sentence each; "" without walls.
	Isolation     string
	IsolationOpen []string
	// Results are what the suite found, in its order.
	Results []Result
	// Problems are what is wrong with it although it works, one sentence each; Notes what the contract leaves to it.
	Problems, Notes []string
}

// Result is what one check of the suite found.
type Result struct {
	Check string
	State State
	// Detail is a sentence about it, "" where there is nothing to say.
	Detail string
	Took   time.Duration
}

// State of a result, as in blocksd doctor.
type State string

// The states.
const (
	OK   State = "ok"
	Warn State = "warn" // allowed, but should be better
	Fail State = "fail"
	Skip State = "skip" // could not be checked
)

// Options of Check.
type Options struct {
	Log *slog.Logger
	// Walls are those of a daemon; nil for none.
	Walls *Walls
	// WithoutTasks only starts the program, and gives it no task.
	WithoutTasks bool
}

// Check runs the suite. The error says in one sentence why the program cannot be used as a handler at all.
func Check(ctx context.Context, p Program, o Options) (Report, error) {
	if o.Walls == nil {
		return runSuite(ctx, p, o)
	}
	return checkBehind(ctx, p, o)
}

func runSuite(ctx context.Context, p Program, o Options) (Report, error) {
	abs, err := filepath.Abs(p.Path)
	if err != nil {
		return Report{}, fmt.Errorf("check handler %s: %w", p.Path, err)
	}
	p.Path = abs
	if p.Interpreter == "" {
		if reason := catalog.Runnable(abs); reason != "" {
			return Report{}, fmt.Errorf("%s cannot be a handler because %s", abs, reason)
		}
	}
	s := suite{Report: Report{Path: abs}, program: p, options: o}
	if s.SHA256, err = catalog.Hash(abs); err != nil {
		return Report{}, fmt.Errorf("check handler %s: %w", abs, err)
	}
	bench, err := NewBench(o.Log, o.Walls)
	if err != nil {
		return Report{}, err
	}
	defer bench.Close()
	if s.handler, err = bench.Start(ctx, p); err != nil {
		return Report{}, err
	}
	s.Start = s.handler.Took
	if o.Walls != nil {
		s.Isolation, s.IsolationOpen = s.handler.conn.Isolation()
		s.IsolationOpen = append(slices.Clone(s.IsolationOpen), s.handler.conn.Skipped()...)
	}
	d := s.handler.Description
	s.Name, s.Version, s.SDK, s.Described, s.Cancel, s.Idempotent = d.Name, d.Version, d.SDK, d.Described, d.Cancel, d.Idempotent
	r := Result{Check: "start", State: OK, Took: s.Start}
	if s.Start > slowStart {
		r.State, r.Detail = Warn, fmt.Sprintf("a daemon waits %v for the handshake, unless it is configured to wait longer", slowStart)
	}
	s.add(r)
	s.cards(d.Cards)
	if !d.Cancel {
		s.Notes = append(s.Notes, "it does not say that it understands CancelTask, so a canceled task is cut off after the grace")
	}
	if !o.WithoutTasks {
		s.tasks(ctx)
	}
	s.health(ctx)
	s.stop()
	return s.Report, nil
}

// suite is one run of the checks.
type suite struct {
	Report
	program Program
	options Options
	handler *Handler
	count   int // of tasks
}

// add takes a result; what has failed is a problem.
func (s *suite) add(r Result) {
	s.Results = append(s.Results, r)
	if r.State == Fail {
		s.Problems = append(s.Problems, r.Detail)
	}
}

func (s *suite) health(ctx context.Context) {
	at := time.Now()
	r := Result{Check: "health", State: OK}
	if err := s.handler.conn.Check(ctx, slowStart); err != nil {
		r.State, r.Detail = Fail, "its health check failed the second time: "+err.Error()
	}
	r.Took = time.Since(at)
	s.add(r)
}

// slowStart is how long a daemon waits for a handshake by default.
const slowStart = 10 * time.Second

// slowStop is how long a daemon waits by default until it sends SIGTERM.
const slowStop = 5 * time.Second

func (s *suite) stop() {
	conn := s.handler.conn
	at := time.Now()
	stopped := conn.Stop()
	s.Report.Stop = time.Since(at)
	r := Result{Check: "stop", State: OK, Took: s.Report.Stop}
	switch {
	case !stopped:
		r.State, r.Detail = Fail, fmt.Sprintf("it could not be ended, even by SIGKILL, and is left behind as process %d: look at what it waits for", conn.PID())
		s.add(r)
		return
	case s.Report.Stop > slowStop:
		r.State, r.Detail = Fail, fmt.Sprintf("it took %v to end after it was asked to: serve plugin.GRPCController/Shutdown, or end on SIGTERM", s.Report.Stop.Round(time.Millisecond))
	default:
		end := conn.Exit()
		if end.Reason == unit.Signal && end.Signal == syscall.SIGTERM {
			r.State, r.Detail = Warn, "it does not know plugin.GRPCController/Shutdown, so it was ended by SIGTERM"
			s.Notes = append(s.Notes, r.Detail)
		} else if end.Text != "it ended with exit code 0" {
			r.State, r.Detail = Fail, "asked to end, "+end.Text
		}
	}
	s.add(r)
	conn.Close()
}

// cards takes the card of the project, that beside the program, or those that it returns, as the daemon does.
func (s *suite) cards(described [][]byte) {
	problems := len(s.Problems)
	defer func() {
		if len(s.Problems) == problems {
			s.add(Result{Check: "card", State: OK})
		}
	}()
	name := filepath.Base(s.Path) + catalog.CardSuffix
	path := s.program.Card
	if path == "" {
		path = filepath.Join(filepath.Dir(s.Path), name)
	}
	if _, err := os.Lstat(path); err == nil {
		s.CardPath = path
		c, err := card.Load(path)
		if err != nil {
			s.add(Result{Check: "card", State: Fail, Detail: err.Error()})
			return
		}
		s.Agents = append(s.Agents, c)
		return
	}
	if len(described) == 0 {
		s.add(Result{Check: "card", State: Fail, Detail: fmt.Sprintf("it has no agent card: put one beside it as %s, return one from Describe, or name one in the configuration, under agents", name)})
	}
	for i, doc := range described {
		c, err := card.Parse(doc)
		if err != nil {
			s.add(Result{Check: "card", State: Fail, Detail: fmt.Sprintf("card %d that it returns is not valid: %v", i+1, err)})
			continue
		}
		s.Agents = append(s.Agents, c)
	}
}
