package sandbox

import (
	"os"
	"path/filepath"
	"testing"
)

// A network with a file for its keys has the same ones the next time, and nothing else of the one before.
func TestKeysFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	start := func() *Sandbox {
		s, err := New(Config{Listen: "127.0.0.1:0", KeysFile: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	first, second := start(), start()
	for i, v := range first.Env() {
		if again := second.Env()[i]; v != again && v.Name != "BLOCKS_CDM_URL" && v.Name != "BLOCKSD_PUBNUB_ORIGIN" {
			t.Errorf("%s is %s and then %s", v.Name, v.Value, again.Value)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if start().APIKey() == first.APIKey() {
		t.Error("the key comes from nowhere")
	}
	if err := os.Mkdir(path+".d", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Listen: "127.0.0.1:0", KeysFile: path + ".d"}); err == nil {
		t.Error("a directory is taken for a file")
	}
}
