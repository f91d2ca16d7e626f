package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"github.com/blocksd/blocksd/internal/atomicfile"
	"github.com/blocksd/blocksd/network/backend"
)

// deploymentFile in the state directory is the last good deployment document.
const deploymentFile = "deployment.json"

// keptDocument is the last good deployment document on disk, so that the daemon can start while the place that serves it
// is down.
type keptDocument struct {
	path string
	log  *slog.Logger
}

type keptForm struct {
	// URL that it came from: of another one it says nothing.
	URL string      `json:"url"`
	CDM backend.CDM `json:"document"`
}

// save keeps the document from url. That it cannot be kept is no reason not to serve.
func (k keptDocument) save(url string, document backend.CDM) {
	data, err := json.Marshal(keptForm{url, document})
	if err == nil {
		if old, readErr := os.ReadFile(k.path); readErr == nil && string(old) == string(data) {
			return
		}
		err = atomicfile.Write(k.path, data, 0o600)
	}
	if err != nil {
		k.log.Warn("the deployment document could not be kept for the next start", "err", err)
	}
}

// load returns the document that was kept from url.
func (k keptDocument) load(url string) (backend.CDM, bool) {
	data, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return backend.CDM{}, false
	}
	var f keptForm
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		k.log.Warn("the kept deployment document cannot be read", "err", err)
		return backend.CDM{}, false
	}
	return f.CDM, f.URL == url && f.CDM.Playground.SubscribeKey != "" && f.CDM.Network.SubscribeKey != ""
}
