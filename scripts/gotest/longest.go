package main

import (
	"cmp"
	"slices"
	"strings"
)

// What is shown of the tests that take longest: whoever wants the whole to be quicker begins there.
const (
	shown      = 8
	longEnough = 10 // seconds
)

// timed is a test, with what it took.
type timed struct {
	aTest
	seconds float64
}

// timeLocked remembers the tests that take longest, parts of tests left aside.
func (r *report) timeLocked(e event) {
	if e.Elapsed < longEnough || strings.Contains(e.Test, "/") {
		return
	}
	r.longest = append(r.longest, timed{aTest{e.Package, e.Test}, e.Elapsed})
	slices.SortStableFunc(r.longest, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	r.longest = r.longest[:min(len(r.longest), shown)]
}
