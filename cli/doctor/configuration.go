package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/internal/shell"
)

// configuration loads the layers and compares what they name with the machine.
func configuration(_ context.Context, w *world) []Result {
	var missing []string
	if w.wrong == nil && w.cfg.Problems != nil {
		for _, p := range w.cfg.Problems(w.loaded) {
			missing = append(missing, p.String())
		}
	}
	return []Result{aboutConfiguration(w.cfg.Sources.File, w.wrong, missing, w.warnings)}
}

func aboutConfiguration(file string, wrong error, missing, warnings []string) Result {
	named, look := "the defaults, the variables and the flags", "see blocksd run --help and the sample file in the documentation"
	if file != "" {
		named, look = file, "blocksd check --config "+shell.Word(file)+" names every problem"
	}
	var all config.Problems
	switch {
	case errors.As(wrong, &all) && len(all) > 1:
		return fail("correct them: "+look, "%s; and %s", all[0], plural(len(all)-1, "further problem"))
	case wrong != nil:
		return fail("correct it: "+look, "%s", sentence(wrong))
	case len(missing) > 0:
		return fail("make what is missing, or correct "+named, "%s", strings.Join(missing, "; "))
	case len(warnings) > 0:
		return warn("correct the names of the variables, or unset them", "%s", strings.Join(warnings, "; "))
	}
	return ok("%s can be used", named)
}
