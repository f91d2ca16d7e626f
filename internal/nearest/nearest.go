// Package nearest finds the known name that an unknown one was probably meant to be: a mistyped key, flag or command.
package nearest

import "strings"

// Name returns the member of known that is closest to name, or "" when none is close enough to be worth naming. Case
// and the difference between "-", "_" and "." do not count. Of several equally close names the first wins.
func Name(name string, known []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, k := range known {
		if d := distance(fold(name), fold(k), bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// Hint returns the end of a sentence about an unknown name: `, did you mean "x"?` or nothing.
func Hint(name string, known []string) string {
	if n := Name(name, known); n != "" {
		return `, did you mean "` + n + `"?`
	}
	return ""
}

// maxCompared bounds the work on hostile names; no known name is that long.
const maxCompared = 64

func fold(s string) string {
	if len(s) > maxCompared {
		s = s[:maxCompared]
	}
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(s))
}

// distance is the number of edits (insert, delete, replace, swap of neighbours) that turn a into b, or at least limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
