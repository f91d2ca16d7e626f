package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/blocksd/blocksd/supervisor/catalog"
)

// plugins looks into the plugins directories as the daemon does, one result for each.
func plugins(_ context.Context, w *world) []Result {
	var out []Result
	for _, dir := range w.settings.Plugins.Dirs {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			out = append(out, warn("create it: install -d -m 0755 "+dir+", or remove it from the configuration", "there is no directory %s", dir))
			continue
		}
		found, skipped := w.scan(dir)
		out = append(out, aboutPlugins(dir, found, skipped))
	}
	if len(out) == 0 {
		return []Result{skip("name one with plugins.dirs or --plugins", "the configuration names no plugins directory")}
	}
	return out
}

// scan trusts what the daemon trusts: where root asks, the daemon may be another user, whose state directory it is.
func (w *world) scan(dir string) ([]catalog.Found, []catalog.Skip) {
	s := catalog.Scanner{}
	if owner, ok := ownerOf(w.settings.StateDir); ok {
		s.User = owner
	}
	return s.Scan([]string{dir})
}

func aboutPlugins(dir string, found []catalog.Found, skipped []catalog.Skip) Result {
	var names, reasons []string
	for _, f := range found {
		names = append(names, f.Name)
	}
	unusable := false
	for _, s := range skipped {
		reasons = append(reasons, s.Reason)
		unusable = unusable || s.Path == dir && s.Name == "" || strings.HasPrefix(s.Reason, "plugins directory ")
	}
	const fix = "only root or the daemon's user may own it, and nobody else may write to it or to a directory above it"
	switch {
	case unusable:
		return fail(fix, "%s", strings.Join(reasons, "; "))
	case len(reasons) > 0:
		return warn("correct or remove what is not loaded", "%s", some(reasons))
	case len(names) == 0:
		return warn("put a handler with its card there", "there is no handler in %s", dir)
	}
	return ok("%s in %s: %s", plural(len(names), "handler"), dir, some(names))
}
