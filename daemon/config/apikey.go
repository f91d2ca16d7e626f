package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// CredentialName is the name of the API key in $CREDENTIALS_DIRECTORY.
const CredentialName = "blocks-api-key"

// ErrNoKey means that no source names an API key at all.
var ErrNoKey = errors.New("there is no API key: set BLOCKS_API_KEY, network.api_key_file, or the systemd credential " + CredentialName)

// APIKey returns the API key of an agent: from its own key file, else network.api_key_file, else BLOCKS_API_KEY, else
// the systemd credential. getenv is os.Getenv or a stand-in. Errors never hold a key.
func (c Config) APIKey(keyFile string, getenv func(string) string) (string, error) {
	for _, path := range []string{keyFile, c.Network.APIKeyFile} {
		if path != "" {
			return readKey(path)
		}
	}
	if k := strings.TrimSpace(getenv("BLOCKS_API_KEY")); k != "" {
		return k, nil
	}
	if dir := getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		k, err := readKey(filepath.Join(dir, CredentialName))
		if !errors.Is(err, os.ErrNotExist) {
			return k, err
		}
	}
	return "", ErrNoKey
}

// maxKeyBytes is far more than any key has.
const maxKeyBytes = 4096

func readKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read API key file: %w", err) // names the path
	}
	k := strings.TrimSpace(string(b))
	if k == "" || len(b) > maxKeyBytes || strings.ContainsAny(k, " \t\r\n") {
		return "", fmt.Errorf("API key file %s must hold one key and nothing else", path)
	}
	return k, nil
}
