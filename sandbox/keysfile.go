package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/blocksd/blocksd/internal/atomicfile"
)

// keptIdentity is an empty network with the keys that a file holds, or with new ones, which go into the file. "" is for no
// file.
func keptIdentity(path string) (identity, error) {
	id := newIdentity()
	if path == "" {
		return id, nil
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		var kept identity
		if json.Unmarshal(raw, &kept) == nil && kept.Version == stateVersion && len(kept.Orgs) == len(id.Orgs) {
			id.keys = kept.keys
			return id, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return identity{}, fmt.Errorf("read the keys of the sandbox: %w", err) // names the path
	}
	if raw, err = json.Marshal(identity{Version: id.Version, keys: id.keys}); err == nil {
		err = atomicfile.Write(path, raw, 0o600)
	}
	if err != nil {
		return identity{}, fmt.Errorf("keep the keys of the sandbox in %s: %w", path, err)
	}
	return id, nil
}
