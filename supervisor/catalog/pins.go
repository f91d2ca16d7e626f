package catalog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/internal/atomicfile"
)

// Pins are the checksums that handlers must have, by name. They are kept in the state directory and not next to the
// handlers, so that a user who may change a handler cannot change its pin with it.
type Pins map[string]string

// PinsFile is the name of the file in the state directory. Its lines are those of sha256sum: a checksum, two spaces and
// the name of a handler. Lines that begin with # are comments.
const PinsFile = "pins"

// ReadPins reads a file of pins; a file that does not exist has none. A line that is none is reported as a problem, in one
// sentence, and the others count.
func ReadPins(path string) (Pins, []string) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Pins{}, nil
	}
	if err != nil {
		return Pins{}, []string{fmt.Sprintf("the pinned checksums in %s are not used because it cannot be read: %v", path, plain(err))}
	}
	return parsePins(path, b)
}

func parsePins(path string, b []byte) (pins Pins, problems []string) {
	pins = Pins{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		sum, name, _ := strings.Cut(line, " ")
		sum, name = strings.ToLower(sum), strings.TrimPrefix(strings.TrimSpace(name), "*")
		if !IsChecksum(sum) || name == "" || name != filepath.Base(name) {
			problems = append(problems, fmt.Sprintf("line %d of %s is not used because it is not a SHA-256 and the name of a handler: pin the handler again", n, path))
			continue
		}
		pins[name] = sum
	}
	if err := lines.Err(); err != nil {
		problems = append(problems, fmt.Sprintf("a part of %s is not used: %v", path, err))
	}
	return pins, problems
}

// Pin writes the checksum of one handler into a file of pins, which keeps its owner.
func Pin(path, name, sum string) error {
	pins, problems := ReadPins(path)
	if len(problems) > 0 {
		return fmt.Errorf("pin handler %s: %s", name, problems[0])
	}
	pins[name] = sum
	var b strings.Builder
	b.WriteString("# Checksums that handlers must have, written by blocksd handler pin.\n")
	for _, name := range slices.Sorted(maps.Keys(pins)) {
		fmt.Fprintf(&b, "%s  %s\n", pins[name], name)
	}
	if err := writePins(path, b.String()); err != nil {
		return fmt.Errorf("pin handler %s in %s: %w", name, path, plain(err))
	}
	return nil
}

func writePins(path, content string) error {
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Close() // nothing after the commit
	if _, err := f.WriteString(content); err != nil {
		return err
	}
	// root may pin for a daemon of another user
	if info, err := os.Stat(filepath.Dir(path)); err == nil && os.Getuid() == 0 {
		if err := f.Chown(int(owner(info)), -1); err != nil {
			return err
		}
	}
	return f.Commit()
}
