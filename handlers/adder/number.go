package main

import (
	"errors"
	"math"
	"math/big"

	"github.com/blocksd/blocksd/handlers/internal/pytext"
)

// number is a finite number as Python has it: an integer of any size, or a float.
type number struct {
	i *big.Int // nil for a float
	f float64  // also the nearest float of i
}

// errTooLarge is Python's: an integer beyond every float has no nearest one.
var errTooLarge = errors.New("int too large to convert to float")

// newNumber is false for everything that is not a finite number; booleans and texts are none.
func newNumber(v pytext.Value) (number, bool, error) {
	switch v := v.(type) {
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		if math.IsInf(f, 0) {
			return number{}, false, errTooLarge
		}
		return number{i: v, f: f}, true, nil
	case float64:
		return number{f: v}, !math.IsNaN(v) && !math.IsInf(v, 0), nil
	}
	return number{}, false, nil
}

func (n number) plus(m number) number {
	if n.i != nil && m.i != nil {
		return number{i: new(big.Int).Add(n.i, m.i)}
	}
	return number{f: n.f + m.f}
}

func (n number) value() pytext.Value {
	if n.i != nil {
		return n.i
	}
	return n.f
}
