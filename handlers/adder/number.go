package main

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
)

// maxExponent bounds what a short text such as 1e999999999 can make of the memory.
const maxExponent = 1000

// isNumber reports whether a JSON value is a number that can be added.
func isNumber(value json.RawMessage) bool {
	if len(value) == 0 || value[0] != '-' && (value[0] < '0' || value[0] > '9') {
		return false
	}
	_, exponent, found := strings.Cut(strings.ToLower(string(value)), "e")
	if !found {
		return true
	}
	e, err := strconv.Atoi(exponent)
	return err == nil && -maxExponent <= e && e <= maxExponent
}

// sum is exact, without an exponent, and has a point where a or b has one.
func sum(a, b json.Number) json.Number {
	x, _ := new(big.Rat).SetString(string(a))
	y, _ := new(big.Rat).SetString(string(b))
	x.Add(x, y)
	digits, _ := x.FloatPrec()
	if strings.Contains(string(a)+string(b), ".") {
		digits = max(digits, 1)
	}
	return json.Number(x.FloatString(digits))
}
