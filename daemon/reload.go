package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/event"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// A reload reads the configuration again, compares it with the one in use, and applies what a running daemon can change. A
// configuration that cannot be used changes nothing.

// configuration is what counts now, and what reloads need to know of each other.
type configuration struct {
	current   atomic.Pointer[config.Config]
	operators atomic.Pointer[control.Group] // whose members may change things
	loaded    atomic.Pointer[config.Loaded] // what current comes from

	reload sync.Mutex // held by the reload under way, also while it waits
	// applied holds a value when settings have been applied that the watcher of files has not seen.
	applied chan struct{}
}

func (c *configuration) open(loaded config.Loaded, settings config.Config, operators control.Group) {
	c.loaded.Store(&loaded)
	c.current.Store(&settings)
	c.operators.Store(&operators)
	c.applied = make(chan struct{}, 1)
}

// States of the event of a reload.
const (
	reloadApplied  = "applied"
	reloadRejected = "rejected"
)

var errNoReload = errors.New("this daemon has a fixed configuration: start it anew to change that")

// Reload implements control.Daemon.
func (d *Daemon) Reload(ctx context.Context) (*controlv1.ReloadResponse, error) {
	if d.cfg.Reload == nil {
		return nil, errNoReload
	}
	d.configuration.reload.Lock()
	defer d.configuration.reload.Unlock()
	d.notify.reloading()
	defer d.notify.send(notifyReady)
	loaded, err := d.cfg.Reload()
	var group control.Group
	if err == nil {
		group, err = lookUpGroup(loaded.Config.Control.OperatorGroup)
	}
	if err != nil {
		return d.rejectReload(loaded, err), nil
	}
	before := d.settings()
	changes := config.Changes(before, loaded.Config)
	now := config.Applicable(before, loaded.Config)
	d.configuration.loaded.Store(&loaded)
	d.apply(before, now, group)
	r := &controlv1.ReloadResponse{Warnings: loaded.Warnings}
	for _, c := range changes {
		r.Changes = append(r.Changes, &controlv1.ConfigChange{Key: c.Key, Needs: c.Needs, Old: c.Old, New: c.New})
	}
	d.events.Emit(event.Event{Type: event.ConfigReloaded, State: reloadApplied, Reason: changesText(changes), Level: levelOf(changes)})
	return r, d.inbox.await(ctx)
}

// rejectReload says why a configuration is not used.
func (d *Daemon) rejectReload(l config.Loaded, err error) *controlv1.ReloadResponse {
	r := &controlv1.ReloadResponse{Warnings: l.Warnings}
	var ps config.Problems
	if errors.As(err, &ps) {
		for _, p := range ps {
			r.Problems = append(r.Problems, p.String())
		}
	} else {
		r.Problems = []string{err.Error()}
	}
	d.events.Emit(event.Event{
		Type: event.ConfigReloaded, State: reloadRejected, Level: slog.LevelError,
		Reason: "the configuration cannot be used, so nothing has changed: " + strings.Join(r.Problems, "; "),
	})
	return r
}

// apply makes now the settings that count. What is served follows in the reconciler.
func (d *Daemon) apply(before, now config.Config, group control.Group) {
	d.configuration.current.Store(&now)
	d.configuration.operators.Store(&group)
	d.taskSlots.setLimit(now.Limits.Tasks)
	if before.Log.Level != now.Log.Level {
		_, _ = d.SetLogLevel(now.Log.Level) // it has been checked
	}
	for _, s := range d.served.all() {
		if a := s.get(); a != nil {
			tune(a, now)
		}
	}
	select {
	case d.configuration.applied <- struct{}{}:
	default:
	}
}

// changesText says in one sentence what a reload has done.
func changesText(changes []config.Change) string {
	var applied, rolled, waiting []string
	for _, c := range changes {
		switch c.Needs {
		case config.NeedsDaemon:
			waiting = append(waiting, c.Key)
		case config.NeedsHandler:
			rolled = append(rolled, c.Key)
		default:
			applied = append(applied, c.Key)
		}
	}
	var parts []string
	for _, p := range []struct {
		keys []string
		text string
	}{
		{applied, "%s counts at once"}, {rolled, "handlers get new processes for %s"}, {waiting, "%s needs a restart of the daemon"},
	} {
		if len(p.keys) > 0 {
			parts = append(parts, fmt.Sprintf(p.text, strings.Join(p.keys, ", ")))
		}
	}
	if parts == nil {
		return "the configuration is the same as before"
	}
	return "the configuration was read again: " + strings.Join(parts, "; ")
}

// levelOf is a warning when something waits for a restart.
func levelOf(changes []config.Change) slog.Level {
	for _, c := range changes {
		if c.Needs == config.NeedsDaemon {
			return slog.LevelWarn
		}
	}
	return slog.LevelInfo
}

// ShowConfig implements control.Daemon.
func (d *Daemon) ShowConfig() []*controlv1.ConfigValue {
	var out []*controlv1.ConfigValue
	for _, v := range d.configuration.loaded.Load().With(d.settings()).Values() {
		out = append(out, &controlv1.ConfigValue{Key: v.Key, Value: v.Text, Source: v.Origin.Source, Where: v.Origin.Where})
	}
	return out
}

// SetLogLevel implements control.Daemon.
func (d *Daemon) SetLogLevel(level string) (previous string, err error) {
	if d.cfg.Level == nil {
		return "", errors.New("the level of this daemon's log is fixed")
	}
	var to slog.Level
	if !config.IsLogLevel(level) || to.UnmarshalText([]byte(level)) != nil {
		return "", fmt.Errorf("the level must be debug, info, warn or error, not %q", level)
	}
	previous = strings.ToLower(d.cfg.Level.Level().String())
	d.cfg.Level.Set(to)
	d.log.SetTypes(d.loggedTypes()...)
	return previous, nil
}

// loggedTypes are what the log reads of the events at its level: what happens to single tasks is debug output.
func (d *Daemon) loggedTypes() []event.Type {
	if d.cfg.Quiet {
		return []event.Type{event.ConfigReloaded} // which nothing else shows
	}
	if d.cfg.Log.Enabled(context.Background(), slog.LevelDebug) {
		return event.Types()
	}
	return event.States()
}

// lookUpGroup finds the group of operators, "" for none.
func lookUpGroup(name string) (control.Group, error) {
	if name == "" {
		return control.Group{}, nil
	}
	problem := func(format string, args ...any) error {
		return config.Problems{{Message: fmt.Sprintf(`key "control.operator_group": `+format, args...)}}
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return control.Group{}, problem("there is no group %s: create it, or name another one", name)
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return control.Group{}, problem("group %s has the number %q, which is none", name, g.Gid)
	}
	// In a user namespace every group that it does not know has this number.
	if overflow, err := os.ReadFile("/proc/sys/kernel/overflowgid"); err == nil && strings.TrimSpace(string(overflow)) == g.Gid {
		return control.Group{}, problem("group %s stands for groups that are not known here: name another one", name)
	}
	return control.Group{Name: name, GID: uint32(gid)}, nil
}
