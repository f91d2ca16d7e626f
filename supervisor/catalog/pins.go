package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/blocksd/blocksd/internal/atomicfile"
	"github.com/blocksd/blocksd/internal/smallfile"
	"github.com/blocksd/blocksd/internal/textfile"
)

// PinsFile is the name of the file in the state directory. Its lines are those of sha256sum: a checksum, two spaces and
// the name of a handler. Lines that begin with # are comments.
const PinsFile = "pins"

// Pins are the checksums that handlers must have. They are kept in the state directory and not next to the handlers, so
// that a user who may change a handler cannot change its pin with it.
type Pins struct {
	// Sums are the checksums by the names of the handlers.
	Sums map[string]string
	// unread are the lines that cannot be read; each may have been the pin of a handler.
	unread []unreadLine
}

// unreadLine is a line that cannot be read as a pin.
type unreadLine struct {
	text string
	// names are those of the handlers that it may mean; none if it may mean any.
	names []string
}

func (l unreadLine) mayMean(name string) bool {
	return len(l.names) == 0 || slices.Contains(l.names, name)
}

// Of returns the checksum that a handler must have, "" for any. It is not certain when a line that cannot be read may be
// the handler's.
func (p Pins) Of(name string) (sum string, certain bool) {
	if sum, ok := p.Sums[name]; ok {
		return sum, true
	}
	return "", !slices.ContainsFunc(p.unread, func(l unreadLine) bool { return l.mayMean(name) })
}

// ReadPins reads a file of pins; a file that does not exist has none. A line that is none is reported as a problem, in one
// sentence, and the others count.
func ReadPins(path string) (Pins, []string) {
	b, err := smallfile.Read(path, maxPins)
	if errors.Is(err, fs.ErrNotExist) {
		return Pins{Sums: map[string]string{}}, nil
	}
	if err == nil {
		return parsePins(path, b)
	}
	return unreadPins("the pinned checksums in %s are not used because it cannot be read: %v", path, err)
}

// maxPins bounds a file of pins; a line of a real one has some hundred bytes.
const maxPins = 4 << 20

// unreadPins are those of a file that cannot be read: any handler may be pinned.
func unreadPins(format string, args ...any) (Pins, []string) {
	return Pins{Sums: map[string]string{}, unread: []unreadLine{{}}}, []string{fmt.Sprintf(format, args...)}
}

func parsePins(path string, content []byte) (pins Pins, problems []string) {
	b, err := textfile.Decode(content)
	if errors.Is(err, textfile.ErrUTF16) {
		return unreadPins("the pinned checksums in %s are not used because %v", path, err)
	}
	if err != nil { // some lines are not in UTF-8
		b = content
	}
	pins.Sums = map[string]string{}
	several := map[string]bool{} // names with more than one checksum
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		sum, name, _ := strings.Cut(line, " ")
		sum, name = strings.ToLower(sum), strings.TrimPrefix(strings.TrimSpace(name), "*")
		if IsChecksum(sum) && name != "" && name == filepath.Base(name) && utf8.ValidString(name) {
			if other, ok := pins.Sums[name]; !several[name] && (!ok || other == sum) {
				pins.Sums[name] = sum
				continue
			}
			several[name] = true
			delete(pins.Sums, name)
			pins.unread = append(pins.unread, unreadLine{line, []string{name}})
			problems = append(problems, fmt.Sprintf("line %d of %s has another checksum for handler %s than a line above: remove one, or pin the handler again", i+1, path, name))
			continue
		}
		pins.unread = append(pins.unread, unreadLine{line, namesIn(line)})
		problems = append(problems, fmt.Sprintf("line %d of %s is not a SHA-256 and the name of a handler: correct it, remove it, or pin the handler again", i+1, path))
	}
	return pins, problems
}

// namesIn returns the names of handlers that a line may mean: each word that is not a checksum, and what follows the
// first one, as they are and, if they are not in UTF-8, as Latin-1 has them. A path may mean the file that it names.
func namesIn(line string) (names []string) {
	words := strings.Fields(line)
	_, rest, _ := strings.Cut(line, " ")
	for _, word := range append(words, strings.TrimSpace(rest)) {
		word = strings.TrimPrefix(word, "*")
		if word == "" || IsChecksum(strings.ToLower(word)) {
			continue
		}
		for _, name := range []string{word, filepath.Base(word)} {
			names = append(names, name)
			if !utf8.ValidString(name) {
				names = append(names, fromLatin1(name))
			}
		}
	}
	return names
}

// fromLatin1 returns the text whose Latin-1 form is s.
func fromLatin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// Pin writes the checksum of one handler into a file of pins, which keeps its owner. Lines that cannot be read stay, but
// for those that can only mean this handler.
func Pin(path, name, sum string) error {
	line := sum + "  " + name + "\n"
	if again, problems := parsePins(path, []byte(line)); len(problems) > 0 || !maps.Equal(again.Sums, map[string]string{name: sum}) {
		return fmt.Errorf("pin handler %q: a line of %s cannot hold this name: rename the file, or write its sha256 into the configuration", name, path)
	}
	pins, problems := ReadPins(path)
	if len(problems) > 0 && len(pins.unread) == 1 && pins.unread[0].text == "" {
		return fmt.Errorf("pin handler %s: %s", name, problems[0])
	}
	pins.Sums[name] = sum
	var b strings.Builder
	b.WriteString("# Checksums that handlers must have, written by blocksd handler pin.\n")
	for _, name := range slices.Sorted(maps.Keys(pins.Sums)) {
		fmt.Fprintf(&b, "%s  %s\n", pins.Sums[name], name)
	}
	for _, l := range pins.unread {
		if len(l.names) == 0 || !l.mayMean(name) {
			b.WriteString(l.text + "\n")
		}
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
