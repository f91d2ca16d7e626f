package doctor

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/deployment"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// Config says what to look at.
type Config struct {
	// Sources are the layers of the configuration, as `blocksd run` would have them.
	Sources config.Sources
	Getenv  func(string) string
	// Problems returns what a configuration names and this machine does not have.
	Problems func(config.Loaded) config.Problems
	// Version of this program.
	Version string
	Paths   Paths
}

// Paths are where a machine has what belongs to the service; the zero value is none of it.
type Paths struct {
	// Units are the directories of systemd units, the strongest first. Systemd exists where systemd runs.
	Units   []string
	Systemd string
	// Key is what the unit gives the daemon as its API key.
	Key string
	// Cgroups is where control groups are.
	Cgroups string
}

// DefaultPaths are those of an ordinary machine.
var DefaultPaths = Paths{
	Units:   []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"},
	Systemd: "/run/systemd/system", Key: "/etc/blocksd/api-key", Cgroups: "/sys/fs/cgroup",
}

// world is what several checks look at. Everything is found out once, by whoever needs it first.
type world struct {
	cfg      Config
	loaded   config.Loaded
	settings config.Config
	warnings []string
	// wrong is why the settings are not those of the configuration.
	wrong error

	mu      sync.Mutex // guards what follows
	network *found[reached]
	status  *found[*controlv1.StatusResponse]
}

// found is something that is found out once. done closes when value and err are there.
type found[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// reached is a network whose document could be read.
type reached struct {
	deployment.Deployment
	api *backend.Client
}

func newWorld(cfg Config) *world {
	w := &world{cfg: cfg}
	var err error
	if w.loaded, err = config.Read(cfg.Sources); err == nil {
		w.settings, w.warnings = w.loaded.Config, w.loaded.Warnings
		return w
	}
	w.wrong = err
	// The other checks go on with what can be used.
	if w.settings, _, err = config.Load(config.Sources{Environ: cfg.Sources.Environ}); err != nil {
		w.settings = config.Default()
	}
	return w
}

func (w *world) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.network == nil {
		return
	}
	select {
	case <-w.network.done:
		if api := w.network.value.api; api != nil {
			api.Close()
		}
	default: // a check that was left behind still asks
	}
}

// once returns what was found out, or finds it out. A caller that cannot wait any longer gets the cause.
func once[T any](ctx context.Context, w *world, slot func() **found[T], find func() (T, error)) (T, error) {
	w.mu.Lock()
	at := slot()
	f := *at
	mine := f == nil
	if mine {
		f = &found[T]{done: make(chan struct{})}
		*at = f
	}
	w.mu.Unlock()
	if mine {
		f.value, f.err = find()
		close(f.done)
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none T
		return none, errors.New("it did not answer in time")
	}
}

// reach fetches the deployment document.
func (w *world) reach(ctx context.Context) (reached, error) {
	return once(ctx, w, func() **found[reached] { return &w.network }, func() (reached, error) {
		n := w.settings.Network
		d, err := (deployment.Config{CDMURL: n.CDMURL, BackendURL: n.BackendURL, PubNubOrigin: n.PubNubOrigin}).Fetch(ctx, nil)
		if err != nil {
			return reached{}, err
		}
		api, err := d.NewBackend(nil, nil)
		return reached{d, api}, err
	})
}

// accountOf asks the network whose a key is.
func (w *world) accountOf(ctx context.Context, key string) (backend.Account, error) {
	net, err := w.reach(ctx)
	if err != nil {
		return backend.Account{}, err
	}
	return net.api.Account(ctx, key)
}

// daemonStatus asks a running daemon.
func (w *world) daemonStatus(ctx context.Context) (*controlv1.StatusResponse, error) {
	return once(ctx, w, func() **found[*controlv1.StatusResponse] { return &w.status }, func() (*controlv1.StatusResponse, error) {
		c, err := control.Dial(ctx, w.settings.Socket)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.Status(ctx)
	})
}

// findKey finds an API key as the daemon would, and beyond that where the unit has it from.
func (w *world) findKey(keyFile string) (config.FoundKey, error) {
	f, err := config.NewKeys(w.settings, w.cfg.Getenv).Find(keyFile)
	if !errors.Is(err, config.ErrNoKey) || w.cfg.Paths.Key == "" {
		return f, err
	}
	if _, statErr := os.Stat(w.cfg.Paths.Key); statErr != nil {
		return f, err
	}
	return config.NewKeys(config.Config{}, w.cfg.Getenv).Find(w.cfg.Paths.Key)
}

// sentence is an error as part of a detail.
func sentence(err error) string {
	return strings.ReplaceAll(strings.TrimSuffix(err.Error(), "."), "\n", "; ")
}

// until is a time to come, in days or hours.
func until(d time.Duration) string {
	switch {
	case d < time.Hour:
		return "less than an hour"
	case d < 48*time.Hour:
		return plural(int(d.Hours()), "hour")
	}
	return plural(int(d.Hours()/24), "day")
}
