package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestStateFileOfEarlierVersion: testdata/network.json was written by an earlier version; this one reads it and writes
// the same again. It holds agents with a grant and an invitation, tasks in every state, one with a stream, a file, and
// keys.
func TestStateFileOfEarlierVersion(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", stateFile))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, stateFile)
	if err := os.WriteFile(path, golden, 0o600); err != nil {
		t.Fatal(err)
	}
	written := time.Date(2026, 11, 28, 5, 10, 7, 0, time.UTC) // when nothing in it had expired
	s, err := New(Config{StateDir: dir, Now: func() time.Time { return written }})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sorted(t, golden), sorted(t, again)); diff != "" {
		t.Error(diff)
	}
}

// sorted reads JSON whose lists of objects have no order.
func sorted(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	var sort func(v any)
	sort = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, member := range v {
				sort(member)
			}
		case []any:
			for _, element := range v {
				sort(element)
			}
			slices.SortFunc(v, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
	}
	sort(v)
	return v
}
