package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/plug"
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
	// CardPath is the card beside it, "" when there is none. It counts more than what the program says of itself.
	CardPath string
	// Problems are what is wrong with it although it works, one sentence each; Notes what the contract leaves to it.
	Problems, Notes []string
}

// CheckProgram starts a handler program by itself, asks it what it is and how it is, and stops it. The error says in one
// sentence why it cannot be used as a handler.
func CheckProgram(ctx context.Context, path string, args, environment []string, log *slog.Logger) (Report, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Report{}, fmt.Errorf("check handler %s: %w", path, err)
	}
	if reason := catalog.Runnable(abs); reason != "" {
		return Report{}, fmt.Errorf("%s cannot be a handler because %s", abs, reason)
	}
	r := Report{Path: abs}
	if r.SHA256, err = catalog.Hash(abs); err != nil {
		return Report{}, fmt.Errorf("check handler %s: %w", abs, err)
	}
	dirs, err := launch.OpenSocketDirs("", "")
	if err != nil {
		return Report{}, err
	}
	spawner := launch.NewSpawner()
	spawning, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { _ = spawner.Run(spawning) })
	defer func() {
		stop()
		running.Wait()
		_ = dirs.Close() // nothing depends on it: the directory is temporary
	}()
	at := time.Now()
	conn, err := plug.Start(ctx, plug.Config{
		Handler: filepath.Base(abs), Path: abs, Args: args, Environment: launch.Environment(os.Environ(), environment), Spawner: spawner, Dirs: dirs, Log: log,
	})
	if err != nil {
		return Report{}, err
	}
	r.Start = time.Since(at)
	d := conn.Description()
	r.Name, r.Version, r.SDK, r.Described, r.Cancel, r.Idempotent = d.Name, d.Version, d.SDK, d.Described, d.Cancel, d.Idempotent
	r.readCards(d.Cards)
	if !d.Cancel {
		r.Notes = append(r.Notes, "it does not say that it understands CancelTask, so a canceled task is cut off after the grace")
	}
	if err := conn.Check(ctx); err != nil {
		r.Problems = append(r.Problems, "its health check failed the second time: "+err.Error())
	}
	at = time.Now()
	stopped := conn.Stop()
	r.Stop = time.Since(at)
	if !stopped {
		r.Problems = append(r.Problems, fmt.Sprintf("it could not be ended, even by SIGKILL, and is left behind as process %d: look at what it waits for", conn.PID()))
		return r, nil
	}
	if r.Stop > slowStop {
		r.Problems = append(r.Problems, fmt.Sprintf("it took %v to end after it was asked to: serve plugin.GRPCController/Shutdown, or end on SIGTERM", r.Stop.Round(time.Millisecond)))
	} else if end := conn.Exit(); end.Reason == unit.Signal && end.Signal == syscall.SIGTERM {
		r.Notes = append(r.Notes, "it does not know plugin.GRPCController/Shutdown, so it was ended by SIGTERM")
	} else if end.Text != "it ended with exit code 0" {
		r.Problems = append(r.Problems, "asked to end, "+end.Text)
	}
	conn.Close()
	return r, nil
}

// readCards takes the card beside the program, else those that it returns, as the daemon does.
func (r *Report) readCards(described [][]byte) {
	name := filepath.Base(r.Path) + catalog.CardSuffix
	path := filepath.Join(filepath.Dir(r.Path), name)
	if _, err := os.Lstat(path); err == nil {
		r.CardPath = path
		c, err := card.Load(path)
		if err != nil {
			r.Problems = append(r.Problems, err.Error())
			return
		}
		r.Agents = append(r.Agents, c)
		return
	}
	if len(described) == 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("it has no agent card: put one beside it as %s, return one from Describe, or name one in the configuration, under agents", name))
	}
	for i, doc := range described {
		c, err := card.Parse(doc)
		if err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("card %d that it returns is not valid: %v", i+1, err))
			continue
		}
		r.Agents = append(r.Agents, c)
	}
}

// slowStop is more than a handler without tasks should need to end.
const slowStop = 2 * time.Second
