package catalog

import (
	"errors"
	"os"
	"strings"

	"github.com/blocksd/blocksd/internal/smallfile"
	"github.com/blocksd/blocksd/internal/textfile"
)

// dotEnv is the file with variables for the handler of a project.
const dotEnv = ".env"

// maxDotEnv bounds it; a real one has a few lines.
const maxDotEnv = 64 << 10

// readDotEnv returns the variables of a file, none when there is no file.
func readDotEnv(path string) ([]string, error) {
	b, err := smallfile.Read(path, maxDotEnv)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		b, err = textfile.Decode(b)
	}
	if err != nil {
		return nil, err
	}
	return parseDotEnv(string(b)), nil
}

// parseDotEnv reads lines KEY=value, with or without export in front and quotes around the value. Keys of the network, and
// whatever else begins with BLOCKS, are left out: a handler needs none of them. Neither does it need to change what the
// protocol says to it.
func parseDotEnv(text string) (environment []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		key = strings.TrimSpace(key)
		if !ok || !variable(key) || strings.HasPrefix(strings.ToUpper(key), "BLOCKS") || strings.HasPrefix(key, "PLUGIN_") {
			continue
		}
		if value = dotEnvValue(strings.TrimSpace(value)); value != "" && !strings.Contains(value, "\x00") {
			environment = append(environment, key+"="+value)
		}
	}
	return environment
}

// dotEnvValue takes the quotes, or a comment at the end, off a value.
func dotEnvValue(s string) string {
	if s == "" {
		return ""
	}
	switch quote := s[0]; quote {
	case '\'', '"':
		end := strings.IndexByte(s[1:], quote)
		if end < 0 {
			return s
		}
		inner := s[1 : 1+end]
		if quote == '"' {
			inner = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`).Replace(inner)
		}
		return inner
	}
	if i := strings.Index(s, " #"); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	if strings.HasPrefix(s, "#") {
		return ""
	}
	return s
}

// variable reports whether s is the name of a variable.
func variable(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
