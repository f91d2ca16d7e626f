// Package switches holds the settings of a sandbox. Each switch is one field, in the struct of the part that acts on
// it, and one row in the table of that struct, with its name on the command line, its default and its bounds. A zero
// field means the default.
package switches

import (
	"fmt"
	"time"
)

// Switch is one setting as the command line knows it.
type Switch struct {
	Name, Usage string
	// Value points to the bool, int, int64 or time.Duration that the switch sets.
	Value any

	unset   func() bool
	reset   func() // to the default
	problem func() string
}

// SetDefault gives a switch that is not set its default.
func (s Switch) SetDefault() {
	if s.unset() {
		s.reset()
	}
}

// Problem says what is wrong with the value, "" for nothing: what it must be.
func (s Switch) Problem() string { return s.problem() }

// String is the value as the command line writes it.
func (s Switch) String() string {
	switch v := s.Value.(type) {
	case *bool:
		return fmt.Sprint(*v)
	case *int:
		return fmt.Sprint(*v)
	case *int64:
		return fmt.Sprint(*v)
	case *time.Duration:
		return v.String()
	}
	return ""
}

// SetDefaults gives all switches that are not set their defaults.
func SetDefaults(table []Switch) {
	for _, s := range table {
		s.SetDefault()
	}
}

// onOff is a switch that is off by default.
func onOff(value *bool, name, usage string) Switch {
	return Switch{
		Name: name, Usage: usage, Value: value,
		unset: func() bool { return false }, reset: func() {}, problem: func() string { return "" },
	}
}

// number is a switch that is at least something. With a default of 0 it is for a number whose zero means itself.
func number[N int | int64](value *N, name string, fallback, least N, usage string) Switch {
	return Switch{
		Name: name, Usage: usage, Value: value,
		unset: func() bool { return *value == 0 || least > 0 && *value < least }, reset: func() { *value = fallback },
		problem: func() string {
			if *value < least {
				return fmt.Sprintf("it must be at least %d", least)
			}
			return ""
		},
	}
}

// duration is a switch that is more than 0.
func duration(value *time.Duration, name string, fallback time.Duration, usage string) Switch {
	return Switch{
		Name: name, Usage: usage, Value: value,
		unset: func() bool { return *value <= 0 }, reset: func() { *value = fallback },
		problem: func() string {
			if *value <= 0 {
				return "it must be more than 0"
			}
			return ""
		},
	}
}

// within gives a duration bounds.
func (s Switch) within(least, most time.Duration) Switch {
	value := s.Value.(*time.Duration)
	s.problem = func() string {
		if *value < least || *value > most {
			return fmt.Sprintf("it must be between %s and %s", least, most)
		}
		return ""
	}
	return s
}

// below gives a duration a limit that it must not reach, with the reason.
func (s Switch) below(limit time.Duration, reason string) Switch {
	value, before := s.Value.(*time.Duration), s.problem
	s.problem = func() string {
		if *value >= limit {
			return fmt.Sprintf("it must be less than %s, %s", limit, reason)
		}
		return before()
	}
	return s
}
