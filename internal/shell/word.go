// Package shell writes words for commands that people copy, and for files that a shell reads.
package shell

import "strings"

// plain are the characters that no shell gives a meaning to, beside letters and digits.
const plain = "/._-+:@%,="

// Word is s as one word of a command. It is quoted only where it has to be.
func Word(s string) string {
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(plain, r)
}
