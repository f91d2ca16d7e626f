package savedir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// TestSave: many who save the same name at once get a file each, and one that fails leaves nothing.
func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "out")
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			d, err := Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			broken := errors.New("broken off")
			if got, err := d.Save("a.txt", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
				t.Errorf("saved %s: %v", got, err)
			}
			got, err := d.Save("a.txt", strings.NewReader(fmt.Sprint(n)))
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(got); err != nil || string(b) != fmt.Sprint(n) {
				t.Errorf("%s holds %q, want %d: %v", got, b, n, err)
			}
		})
	}
	all.Wait()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"a.txt"}
	for n := 2; n <= 20; n++ {
		want = append(want, fmt.Sprintf("a (%d).txt", n))
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("saved %q, want %q", names, want)
	}
}
