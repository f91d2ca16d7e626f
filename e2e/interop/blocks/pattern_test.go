package blocks

import (
	"crypto/sha256"
	"encoding/hex"
)

// pattern is what the scripts send when they are asked for so many bytes.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 % 251)
	}
	return b
}

func fullSum(n int) string { return hex.EncodeToString(hash(pattern(n))) }

// sum is the beginning of the hash, as consumer.py shows it.
func sum(n int) string { return shortSum(pattern(n)) }

func shortSum(b []byte) string { return hex.EncodeToString(hash(b))[:12] }

func hash(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
