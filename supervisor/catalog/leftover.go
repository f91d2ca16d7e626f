package catalog

import (
	"slices"
	"strconv"
	"strings"
)

// What editors, package managers, builds and people leave beside a program. It is no handler, even if it can be run: a
// copy of the program from before would claim the same agent.
var (
	leftoverSuffixes = []string{
		"~", ".bak", ".backup", ".orig", ".old", ".prev", ".new", ".save", ".rej", ".tmp", ".temp", ".part", ".crdownload",
		".disabled", ".swp", ".swo", ".rpmsave", ".rpmnew", ".rpmorig", ".pacsave", ".pacnew", ".pacorig", ".apk-new", "copy)", "___jb_tmp___", "___jb_old___",
	}
	buildSuffixes = []string{".so", ".a", ".o", ".pyc"}
	// Something follows these: dpkg-old, so.1.
	leftoverInfixes = []string{".dpkg-", ".ucf-", ".so.", ".rpm-", ".~"}
)

// leftover reports whether a file of this name is not looked at. Names that begin with a dot are hidden.
func leftover(name string) bool {
	lower := strings.ToLower(name)
	plain := strings.TrimRight(strings.TrimRight(lower, "0123456789"), ".-") // save.1, bak2
	return strings.HasPrefix(name, ".") ||
		strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") || strings.HasPrefix(name, "~$") || probe(name) ||
		slices.ContainsFunc(leftoverSuffixes, func(s string) bool { return strings.HasSuffix(lower, s) || strings.HasSuffix(plain, s) }) ||
		slices.ContainsFunc(buildSuffixes, func(s string) bool { return strings.HasSuffix(lower, s) }) ||
		slices.ContainsFunc(leftoverInfixes, func(s string) bool { return strings.Contains(lower, s) })
}

// probe reports whether Vim makes a file of this name for a moment, to see whether it may: 4913, or if that is there, further ones of
// its row.
func probe(name string) bool {
	const first, step, most = 4913, 123, 10
	n, err := strconv.Atoi(name)
	return err == nil && n >= first && n < first+most*step && (n-first)%step == 0
}
