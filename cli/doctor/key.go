package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/backend"
)

// warnAhead is how long before its end a key is warned about.
const warnAhead = 14 * 24 * time.Hour

// key looks at the shared key and at the key files of single agents, one result for each key.
func key(ctx context.Context, w *world) []Result {
	files := []string{""}
	for _, a := range w.settings.Agents {
		if a.KeyFile != "" {
			files = append(files, a.KeyFile)
		}
	}
	var out []Result
	var seen []string
	for _, file := range files {
		f, err := w.findKey(file)
		if err != nil {
			if file == "" && len(files) > 1 && errors.Is(err, config.ErrNoKey) {
				continue // each agent may have its own
			}
			out = append(out, aboutNoKey(err))
			continue
		}
		if slices.Contains(seen, f.Key) {
			continue
		}
		seen = append(seen, f.Key)
		if _, err := w.reach(ctx); err != nil {
			out = append(out, skip("see the check cdm", "there is one, from %s; the network could not be asked about it", f.Source))
			continue
		}
		account, err := w.accountOf(ctx, f.Key)
		out = append(out, aboutKey(f, account, err, time.Now()))
	}
	return out
}

// aboutNoKey is about a key that cannot be had.
func aboutNoKey(err error) Result {
	if errors.Is(err, fs.ErrPermission) {
		return skip("run it as root, or as the daemon's user", "%s", sentence(err))
	}
	if errors.Is(err, config.ErrNoKey) {
		return fail("put one into BLOCKS_API_KEY, into the file that network.api_key_file names, or into /etc/blocksd/api-key for the systemd unit",
			"there is no API key")
	}
	return fail("put a valid API key there", "%s", sentence(err))
}

// aboutKey is about a key that the network was asked about.
func aboutKey(f config.FoundKey, account backend.Account, err error, now time.Time) Result {
	if e, ok := errors.AsType[*backend.Error](err); ok && (e.Final() || e.Status == http.StatusUnauthorized) {
		return fail("make a new key on the network's site or with blocks login, and put it there", "the network refuses the API key from %s", f.Source)
	}
	if err != nil {
		return warn("try again later", "there is one, from %s; the network did not say whether it takes it: %s", f.Source, sentence(err))
	}
	of := cmp.Or(account.OrgName, account.OrgID, "an organization without a name")
	expires := account.KeyExpires
	if expires.IsZero() {
		expires = f.Expires
	}
	left := expires.Sub(now)
	const renew = "make a new key on the network's site or with blocks login, and put it there before"
	switch {
	case expires.IsZero():
		return ok("from %s, for %s; the network does not say when it ends", f.Source, of)
	case left <= 0:
		return fail(renew, "the API key from %s has ended at %s", f.Source, expires.UTC().Format(time.RFC3339))
	case left <= warnAhead:
		return warn(renew, "the API key from %s ends in %s, at %s", f.Source, until(left), expires.UTC().Format(time.RFC3339))
	}
	return ok("from %s, for %s; it ends in %s", f.Source, of, until(left))
}
