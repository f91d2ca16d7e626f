package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAPIKey(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	own, shared, bad := file("own", "bk_own\n"), file("shared", "bk_shared"), file("bad", "two keys bk_secret")
	file(CredentialName, "bk_credential\n")
	none := func(string) string { return "" }
	env := func(m map[string]string) func(string) string { return func(n string) string { return m[n] } }
	for _, c := range []struct {
		name, agentFile, sharedFile string
		getenv                      func(string) string
		want, err                   string
	}{
		{"own", own, shared, env(map[string]string{"BLOCKS_API_KEY": "bk_env"}), "bk_own", ""},
		{"shared", "", shared, env(map[string]string{"BLOCKS_API_KEY": "bk_env"}), "bk_shared", ""},
		{"variable", "", "", env(map[string]string{"BLOCKS_API_KEY": "bk_env", "CREDENTIALS_DIRECTORY": dir}), "bk_env", ""},
		{"credential", "", "", env(map[string]string{"CREDENTIALS_DIRECTORY": dir}), "bk_credential", ""},
		{"no credential", "", "", env(map[string]string{"CREDENTIALS_DIRECTORY": t.TempDir()}), "", ErrNoKey.Error()},
		{"none", "", "", none, "", ErrNoKey.Error()},
		{"missing", filepath.Join(dir, "x"), "", none, "", "read API key file " + filepath.Join(dir, "x") + ": no such file or directory"},
		{"bad", bad, "", none, "", "API key file " + bad + " must hold one key and nothing else, but it has more than one word or line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Default()
			cfg.Network.APIKeyFile = c.sharedFile
			got, err := NewKeys(cfg, c.getenv).Key(c.agentFile)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "bk_") {
				t.Errorf("the error holds a key: %v", err)
			}
		})
	}
}

// TestKeyEncodings: a byte order mark and white space do not matter; what is no key is an error that does not hold it.
func TestKeyEncodings(t *testing.T) {
	for content, want := range map[string]string{
		"bk_1": "", "\n bk_1\r\n": "", "\xef\xbb\xbfbk_1\n": "",
		"": "it is empty", "  \n": "it is empty", "bk_1\nbk_2": "more than one", "bk_1 bk_2": "more than one", "bk_1\rbk_2": "more than one",
		`"bk_1"`: "quotes", "'bk_1'": "quotes", "BLOCKS_API_KEY=bk_1": "NAME=value", "bk_\x001": "visible ASCII", "bk_\u00e4": "visible ASCII",
		"bk_\xe4": "UTF-8", "b\x00k\x00_\x001\x00": "UTF-16", "\xff\xfeb\x00k\x00": "UTF-16", strings.Repeat("k", 5000): "more than 4096 bytes",
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := NewKeys(Default(), os.Getenv).Key(path)
		switch {
		case want == "" && (key != "bk_1" || err != nil):
			t.Errorf("%q: got %q, %v", content, key, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "bk_")):
			t.Errorf("%q: got %q, %v; want %s", content, key, err, want)
		}
	}
}

// TestKeyFromPipe: a pipe is read once, and what came out of it stays the key.
func TestKeyFromPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(path, []byte("bk_piped\n"), 0o600) }() // opens when somebody reads
	keys := NewKeys(Default(), os.Getenv)
	for range 3 {
		if key, err := keys.Key(path); err != nil || key != "bk_piped" {
			t.Fatalf("got %q, %v", key, err)
		}
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	if _, err := keys.Key(t.TempDir()); err == nil || !strings.Contains(err.Error(), "it is not a regular file") {
		t.Errorf("a directory as a key file: %v", err)
	}
}

// TestKeyFileIsReadAgain: a key that was replaced in its file is noticed.
func TestKeyFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	keys := NewKeys(Default(), os.Getenv)
	for _, want := range []string{"bk_old", "bk_new"} {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if key, err := keys.Key(path); key != want {
			t.Errorf("got %q, %v", key, err)
		}
	}
}
