package main

import (
	"errors"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestBoth: the errors of both sides are told, and neither keeps the other from running.
func TestBoth(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	for _, c := range []struct{ f, g error }{{nil, nil}, {one, nil}, {nil, two}, {one, two}} {
		ran := 0
		err := both(func() error { return c.f }, func() error { ran++; return c.g })
		if ran != 1 || (err == nil) != (c.f == nil && c.g == nil) || c.f != nil && !errors.Is(err, c.f) || c.g != nil && !errors.Is(err, c.g) {
			t.Errorf("%v and %v: %v", c.f, c.g, err)
		}
	}
}
