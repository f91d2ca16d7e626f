package journal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/blocksd/blocksd/internal/atomicfile"
	"github.com/blocksd/blocksd/internal/shell"
)

// Names of the key: the systemd credential, and the file in the state directory that is made where there is none.
const (
	CredentialName = "blocksd-journal-key"
	KeyFileName    = "journal.key"
)

// Bounds of a secret. The lower one is the strength of the cipher.
const (
	minSecretBytes = 32
	maxSecretBytes = 4096
)

// Secret returns what the journal in stateDir is sealed with: the content of the credential in credentialsDir, else
// that of the key file in stateDir, which is made if there is neither key nor journal yet. credentialsDir may be empty.
// The content counts as it is, at least 32 bytes.
func Secret(stateDir, credentialsDir string) ([]byte, error) {
	if credentialsDir != "" {
		path := filepath.Join(credentialsDir, CredentialName)
		secret, err := readSecret(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return secret, err
		}
	}
	path := filepath.Join(stateDir, KeyFileName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSecret(stateDir, path)
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, unusable(fmt.Errorf("use journal key %s: its mode %04o lets others than its owner read or write it: run chmod 600 %s", path, info.Mode().Perm(), shell.Word(path)))
	}
	return readSecret(path)
}

func readSecret(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read journal key %s: %w", path, bare(err))
	case len(secret) < minSecretBytes || len(secret) > maxSecretBytes:
		return nil, unusable(fmt.Errorf("use journal key %s: it has %d bytes, but must have %d to %d: put the right file back, or see the operator's manual on starting a new journal",
			path, len(secret), minSecretBytes, maxSecretBytes))
	}
	return secret, nil
}

// makeSecret writes a new key, unless there is a journal that it could not open.
func makeSecret(stateDir, path string) ([]byte, error) {
	file := filepath.Join(stateDir, FileName)
	if info, err := os.Stat(file); err == nil && info.Size() > 0 {
		return nil, unusable(fmt.Errorf("open journal %s: its key %s is missing: put the key back, or move the journal away to start without the tasks in it", file, path))
	}
	random := make([]byte, minSecretBytes)
	rand.Read(random) // never fails
	secret := append(hex.AppendEncode(nil, random), '\n')
	if err := atomicfile.Write(path, secret, 0o600); err != nil {
		return nil, fmt.Errorf("write journal key %s: %w: make its directory writable or free space on its disk", path, bare(err))
	}
	return secret, nil
}

// bare is the reason of an error of package os, without the operation and path that our sentence names.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
