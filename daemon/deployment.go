package daemon

import (
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/blocksd/blocksd/network/backend"
)

// publicOrigin is where PubNub itself is, with TLS.
const publicOrigin = "ps.pndsn.com"

// The wait between attempts to reach the network doubles between these.
const firstRetry, lastRetry = 250 * time.Millisecond, 15 * time.Second

// findDeployment fetches the deployment document, for as long as it takes: agents show why they wait.
func (d *Daemon) findDeployment(ctx context.Context) {
	url := d.cfg.Settings.Network.CDMURL
	if url == "" {
		url = backend.DefaultCDMURL
	}
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := d.fetchDeployment(ctx, url)
		if err == nil {
			close(d.deployment.known)
			return
		}
		if ctx.Err() != nil {
			return
		}
		reason := fmt.Sprintf("the network cannot be reached, trying again: %s", err)
		for _, s := range d.everyone() {
			s.explain(reason)
		}
		d.cfg.Log.Warn("the deployment document cannot be fetched, trying again", "err", err)
		d.changed.broadcast()
		// Spread, so that daemons that fail for one common reason do not come back at the same moment.
		timer := time.NewTimer(wait/2 + mathrand.N(wait/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (d *Daemon) fetchDeployment(ctx context.Context, url string) error {
	cdm, err := backend.FetchCDM(ctx, nil, url) // bounded by its own deadline
	if err != nil {
		return err
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
	dep := &d.deployment
	dep.cdm, dep.client = cdm, client
	switch {
	case n.PubNubOrigin != "":
		dep.origin = n.PubNubOrigin
	case cdm.PubNubOrigin != "":
		dep.origin = cdm.PubNubOrigin
	default:
		dep.origin, dep.secure = publicOrigin, true
	}
	return nil
}
