package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/internal/smallfile"
	"github.com/blocksd/blocksd/internal/textfile"
)

// CredentialName is the name of the API key in $CREDENTIALS_DIRECTORY.
const CredentialName = "blocks-api-key"

// ErrNoKey means that no source names an API key at all.
var ErrNoKey = errors.New("there is no API key: set BLOCKS_API_KEY, network.api_key_file, or the systemd credential " + CredentialName)

// maxKeyBytes is far more than any key has.
const maxKeyBytes = 4096

// Keys reads API keys. It reads a regular file each time, to notice a replaced key, and a pipe once, because its content
// cannot be read again. It is safe for concurrent use.
type Keys struct {
	shared string // network.api_key_file
	// cdmURL and backendURL say for which network a stored login must be.
	cdmURL, backendURL string

	getenv func(string) string

	mu    sync.Mutex // held while a pipe is read, so that it is read once
	pipes map[string]piped
}

// piped is the result of reading a pipe.
type piped struct {
	key string
	err error
}

// NewKeys returns the source of API keys that c describes. getenv is os.Getenv or a stand-in.
func NewKeys(c Config, getenv func(string) string) *Keys {
	return &Keys{
		shared: c.Network.APIKeyFile, cdmURL: c.Network.CDMURL, backendURL: c.Network.BackendURL, getenv: getenv, pipes: map[string]piped{},
	}
}

// Key returns the API key of an agent: from its own key file, else network.api_key_file, else BLOCKS_API_KEY, else the
// systemd credential, else the login of Blocks' own tool. Errors never hold a key.
func (k *Keys) Key(keyFile string) (string, error) {
	found, err := k.find(keyFile)
	return found.Key, err
}

// FoundKey is an API key with where it comes from.
type FoundKey struct {
	Key string
	// Source says in words where it comes from.
	Source string
	// Expires is when it ends, as far as the login of Blocks' own tool knows; else zero.
	Expires time.Time
}

// Find is Key, with what is known of the key.
func (k *Keys) Find(keyFile string) (FoundKey, error) {
	found, err := k.find(keyFile)
	if err != nil {
		return FoundKey{}, err
	}
	if login, err := StoredLogin(k.getenv); err == nil && login.Key == found.Key {
		found.Expires = login.Expires
	}
	return found, nil
}

// Expires says when a key ends, as Find; zero where that is not known.
func (k *Keys) Expires(keyFile string) time.Time {
	f, _ := k.Find(keyFile) // an error knows no end
	return f.Expires
}

func (k *Keys) find(keyFile string) (f FoundKey, err error) {
	for _, path := range []string{keyFile, k.shared} {
		if path != "" {
			f.Source = "file " + path
			f.Key, err = k.read(path)
			return f, err
		}
	}
	f.Source = "variable BLOCKS_API_KEY"
	if f.Key, err = KeyOfEnvironment(k.getenv); err != ErrNoKey {
		return f, err
	}
	if dir := k.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		f.Source = "systemd credential " + CredentialName
		if f.Key, err = k.read(filepath.Join(dir, CredentialName)); !errors.Is(err, os.ErrNotExist) {
			return f, err
		}
	}
	login, err := StoredLogin(k.getenv)
	if err != nil {
		return FoundKey{}, err
	}
	f.Source = "login in " + login.Path
	f.Key, err = login.KeyFor(k.cdmURL, k.backendURL)
	return f, err
}

// KeyOfEnvironment returns the API key in BLOCKS_API_KEY, or ErrNoKey. Errors never hold a key.
func KeyOfEnvironment(getenv func(string) string) (string, error) {
	v := getenv("BLOCKS_API_KEY")
	if strings.TrimSpace(v) == "" {
		return "", ErrNoKey
	}
	key, why := parseKey([]byte(v))
	if why != "" {
		return "", fmt.Errorf("the variable BLOCKS_API_KEY does not hold an API key: %s", why)
	}
	return key, nil
}

func (k *Keys) read(path string) (string, error) {
	if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return keyIn(path)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.pipes[path]
	if !ok {
		p.key, p.err = keyIn(path)
		k.pipes[path] = p
	}
	return p.key, p.err
}

// keyIn reads a key from a file or a pipe.
func keyIn(path string) (string, error) {
	b, err := smallfile.ReadOrWait(path, maxKeyBytes)
	if err != nil {
		return "", fmt.Errorf("read API key file %s: %w", path, err)
	}
	key, why := parseKey(b)
	if why != "" {
		return "", fmt.Errorf("API key file %s must hold one key and nothing else, but %s", path, why)
	}
	return key, nil
}

// parseKey takes white space and a byte order mark off. why says what is wrong, without the content.
func parseKey(b []byte) (key, why string) {
	if len(b) > maxKeyBytes {
		return "", fmt.Sprintf("it has more than %d bytes", maxKeyBytes)
	}
	b, err := textfile.Decode(b)
	if err != nil {
		return "", err.Error()
	}
	key = strings.TrimSpace(string(b))
	switch {
	case key == "":
		return "", "it is empty"
	case strings.ContainsAny(key, " \t\r\n"):
		return "", "it has more than one word or line"
	case strings.ContainsAny(key, "\"'`"):
		return "", "the key is in quotes: leave them out"
	case strings.Contains(key, "="):
		return "", "it looks like NAME=value: leave the name out"
	case strings.ContainsFunc(key, func(r rune) bool { return r < '!' || r > '~' }):
		return "", "it has characters that are not visible ASCII"
	}
	return key, ""
}
