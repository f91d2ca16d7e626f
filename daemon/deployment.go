package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/backend"
)

// publicOrigin is where PubNub itself is, with TLS.
const publicOrigin = "ps.pndsn.com"

// deploymentFile in the state directory is the last good deployment document, so that the daemon can start while the
// place that serves it is down.
const deploymentFile = "deployment.json"

// patientAttempts is how often the document is asked for before the kept one is used: most failures pass at once, and a
// kept document may be out of date.
const patientAttempts = 3

// The wait between attempts to reach the network doubles between these.
const firstRetry, lastRetry = 250 * time.Millisecond, 15 * time.Second

// lastLook is the longest wait before the document is looked at again, for agents that cannot reach the network although
// it says where they look.
const lastLook = 5 * time.Minute

// deployment is where the network is.
type deployment struct {
	// known closes when there is a place.
	known chan struct{}
	// moved holds a value when an agent suspects that the place is another by now.
	moved chan struct{}

	mu    sync.Mutex // guards place
	place place
}

// place is one state of a deployment.
type place struct {
	cdm    backend.CDM
	client *backend.Client
	origin string
	secure bool
}

func (d *deployment) get() place {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.place
}

// suspect says that the place may be another by now. It never blocks.
func (d *deployment) suspect() {
	select {
	case d.moved <- struct{}{}:
	default:
	}
}

// findDeployment fetches the deployment document, for as long as it takes: agents show why they wait. A kept document
// stands in for one that cannot be fetched, until it can; if it was out of date then, the agents connect anew.
func (d *Daemon) findDeployment(ctx context.Context) {
	url := d.cfg.Settings.Network.CDMURL
	if url == "" {
		url = backend.DefaultCDMURL
	}
	standIn := false
	for n, wait := 1, firstRetry; ; n, wait = n+1, min(2*wait, lastRetry) {
		cdm, err := backend.FetchCDM(ctx, nil, url) // bounded by its own deadline
		if err == nil {
			err = d.settle(cdm, standIn)
		}
		if err == nil {
			d.keep(url, cdm)
			d.followDeployment(ctx, url)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if !standIn && n >= patientAttempts {
			if kept, ok := d.kept(url); ok && d.settle(kept, false) == nil {
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
		// Spread, so that daemons that fail for one common reason do not come back at the same moment.
		if !pause(ctx, wait/2+mathrand.N(wait/2)) {
			return
		}
	}
}

// followDeployment looks at the document again when agents suspect that the network has moved, until ctx ends.
func (d *Daemon) followDeployment(ctx context.Context, url string) {
	for wait := lastRetry; ; {
		select {
		case <-ctx.Done():
			return
		case <-d.deployment.moved:
		}
		cdm, err := backend.FetchCDM(ctx, nil, url)
		same := err == nil && cdm == d.deployment.get().cdm
		if err == nil && !same {
			if err = d.settle(cdm, true); err == nil {
				d.keep(url, cdm)
			}
		}
		if err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("the network may have moved, but its deployment document is of no use", "err", err)
		}
		if same { // nobody can say what else to try
			wait = min(2*wait, lastLook)
		} else {
			wait = lastRetry
		}
		if !pause(ctx, wait/2+mathrand.N(wait/2)) {
			return
		}
	}
}

// pause waits for d and reports whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// settle makes a document the one that counts. again says that another one counts already.
func (d *Daemon) settle(cdm backend.CDM, again bool) error {
	dep := &d.deployment
	if again && dep.get().cdm == cdm {
		return nil
	}
	n := d.cfg.Settings.Network
	base := n.BackendURL
	if base == "" {
		base = cdm.BaseURL
	}
	client, err := backend.New(backend.Config{BaseURL: base, Log: d.cfg.Log})
	if err != nil {
		return err
	}
	p := place{cdm: cdm, client: client, origin: publicOrigin, secure: true}
	switch {
	case n.PubNubOrigin != "":
		p.origin, p.secure = n.PubNubOrigin, false
	case cdm.PubNubOrigin != "":
		p.origin, p.secure = cdm.PubNubOrigin, false
	}
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
		if old, err := os.ReadFile(filepath.Join(d.cfg.Settings.StateDir, deploymentFile)); err == nil && string(old) == string(data) {
			return nil
		}
		f, err := os.CreateTemp(d.cfg.Settings.StateDir, deploymentFile+".*") // of mode 0600
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		err = errors.Join(err, f.Sync(), f.Close())
		if err == nil {
			err = os.Rename(f.Name(), filepath.Join(d.cfg.Settings.StateDir, deploymentFile))
		}
		if err != nil {
			return errors.Join(err, os.Remove(f.Name()))
		}
		return nil
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
