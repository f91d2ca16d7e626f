package textfile_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/textfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		content, want string
		err           error
	}{
		{"", "", nil},
		{"a", "a", nil},
		{"käse", "käse", nil},
		{"\xef\xbb\xbfkey", "key", nil},
		{"k\xe4se", "", textfile.ErrNotUTF8},
		{"\xff\xfek\x00", "", textfile.ErrUTF16},
		{"\xfe\xff\x00k", "", textfile.ErrUTF16},
		{"k\x00e\x00", "", textfile.ErrUTF16},
		{"k\x00\xe4\x00", "", textfile.ErrUTF16},
		{"\x00k\x00e", "", textfile.ErrUTF16},
	} {
		got, err := textfile.Decode([]byte(c.content))
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: got %q, %v", c.content, got, err)
		}
	}
}
