package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/blocksd/blocksd/internal/atomicfile"
	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/deployment"
)

// deploymentFile in the state directory is the last good deployment document, so that the daemon can start while the
// place that serves it is down.
const deploymentFile = "deployment.json"

// patientAttempts is how often the document is asked for before the kept one is used: most failures pass at once, and a
// kept document may be out of date.
const patientAttempts = 3

// documentBackoff is the pause between attempts to fetch the document. unchangedBackoff is that before the document is
// fetched again for agents that cannot reach the network although it says that they look in the right place.
var (
	documentBackoff  = retry.Backoff{First: 250 * time.Millisecond, Max: 15 * time.Second}
	unchangedBackoff = retry.Backoff{First: 15 * time.Second, Max: 5 * time.Minute}
)

// network is where the settings say that the network is.
func (d *Daemon) network() deployment.Config {
	n := d.cfg.Settings.Network
	return deployment.Config{CDMURL: n.CDMURL, BackendURL: n.BackendURL, PubNubOrigin: n.PubNubOrigin}
}

// networkPlace is where the network is.
type networkPlace struct {
	// known closes when there is a place.
	known chan struct{}
	// moved holds a value when an agent suspects that the place is another by now.
	moved chan struct{}

	mu    sync.Mutex // guards place
	place place
}

// place is one state of a deployment.
type place struct {
	deployment.Deployment
	client *backend.Client
}

func (d *networkPlace) get() place {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.place
}

// suspect says that the place may be another by now. It never blocks.
func (d *networkPlace) suspect() {
	select {
	case d.moved <- struct{}{}:
	default:
	}
}

// findDeployment fetches the deployment document, for as long as it takes: agents show why they wait. A kept document
// stands in for one that cannot be fetched, until it can; if it was out of date then, the agents connect anew.
func (d *Daemon) findDeployment(ctx context.Context) {
	where := d.network()
	standIn := false
	for n := 1; ; n++ {
		found, err := where.Fetch(ctx, nil) // bounded by its own deadline
		if err == nil {
			err = d.settle(found, standIn)
		}
		if err == nil {
			d.keep(where.URL(), found.CDM)
			d.followDeployment(ctx, where)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if !standIn && n >= patientAttempts {
			if kept, ok := d.kept(where.URL()); ok && d.settle(where.Resolve(kept), false) == nil {
				standIn = true
				d.cfg.Log.Warn("the deployment document cannot be fetched, going on with the last good one", "err", err)
			}
		}
		if !standIn {
			reason := fmt.Sprintf("the network cannot be reached, trying again: %s", err)
			for _, s := range d.everyone() {
				s.explain(reason)
			}
			d.cfg.Log.Warn("the deployment document cannot be fetched, trying again", "err", err)
			d.changed.broadcast()
		}
		if retry.Pause(ctx, documentBackoff.Delay(n)) != nil {
			return
		}
	}
}

// followDeployment looks at the document again when agents suspect that the network has moved, until ctx ends.
func (d *Daemon) followDeployment(ctx context.Context, where deployment.Config) {
	for unchanged := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-d.deployment.moved:
		}
		found, err := where.Fetch(ctx, nil)
		same := err == nil && found == d.deployment.get().Deployment
		if err == nil && !same {
			if err = d.settle(found, true); err == nil {
				d.keep(where.URL(), found.CDM)
			}
		}
		if err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("the network may have moved, but its deployment document is of no use", "err", err)
		}
		if same { // nobody can say what else to try
			unchanged++
		} else {
			unchanged = 1
		}
		if retry.Pause(ctx, unchangedBackoff.Delay(unchanged)) != nil {
			return
		}
	}
}

// settle makes a document the one that counts. again says that another one counts already.
func (d *Daemon) settle(found deployment.Deployment, again bool) error {
	dep := &d.deployment
	if again && dep.get().Deployment == found {
		return nil
	}
	client, err := found.NewBackend(nil, d.cfg.Log)
	if err != nil {
		return err
	}
	p := place{found, client}
	dep.mu.Lock()
	old := dep.place
	dep.place = p
	dep.mu.Unlock()
	if !again {
		close(dep.known)
		return nil
	}
	old.client.Close()
	d.cfg.Log.Warn("the deployment document has changed, so all agents connect anew")
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.round != nil {
		d.round.end()
		d.round = nil
	}
	return nil
}

// keptDocument is what deploymentFile holds.
type keptDocument struct {
	// URL that it came from: of another one it says nothing.
	URL string      `json:"url"`
	CDM backend.CDM `json:"document"`
}

// keep writes the document down, whole or not at all. That it cannot be kept is no reason not to serve.
func (d *Daemon) keep(url string, cdm backend.CDM) {
	err := func() error {
		data, err := json.Marshal(keptDocument{url, cdm})
		if err != nil {
			return err
		}
		path := filepath.Join(d.cfg.Settings.StateDir, deploymentFile)
		if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
			return nil
		}
		return atomicfile.Write(path, data, 0o600)
	}()
	if err != nil {
		d.cfg.Log.Warn("the deployment document could not be kept for the next start", "err", err)
	}
}

// kept returns the document that was kept from url.
func (d *Daemon) kept(url string) (backend.CDM, bool) {
	data, err := os.ReadFile(filepath.Join(d.cfg.Settings.StateDir, deploymentFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.cfg.Log.Warn("the kept deployment document cannot be read", "err", err)
		}
		return backend.CDM{}, false
	}
	var k keptDocument
	if err := json.Unmarshal(data, &k); err != nil {
		d.cfg.Log.Warn("the kept deployment document cannot be read", "err", err)
		return backend.CDM{}, false
	}
	return k.CDM, k.URL == url && k.CDM.Playground.SubscribeKey != "" && k.CDM.Network.SubscribeKey != ""
}
