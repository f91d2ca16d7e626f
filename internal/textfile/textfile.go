// Package textfile reads what editors save as text: it takes a byte order mark off and says what is wrong with an encoding
// that is not UTF-8.
package textfile

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// Errors of Decode; each ends a sentence about the file.
var (
	ErrUTF16   = errors.New("it is encoded in UTF-16: save it as UTF-8")
	ErrNotUTF8 = errors.New("it is not encoded in UTF-8 (perhaps in Latin-1): save it as UTF-8")
)

// Decode returns the content without a byte order mark.
func Decode(content []byte) ([]byte, error) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	switch {
	case bytes.HasPrefix(content, []byte("\xff\xfe")), bytes.HasPrefix(content, []byte("\xfe\xff")):
		return nil, ErrUTF16
	case len(content) > 1 && (content[0] == 0 && content[1] != 0 || content[0] != 0 && content[1] == 0):
		return nil, ErrUTF16 // without a mark
	case !utf8.Valid(content):
		return nil, ErrNotUTF8
	}
	return content, nil
}
