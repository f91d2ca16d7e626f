package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/blocksd/blocksd/internal/nearest"
	"github.com/blocksd/blocksd/internal/smallfile"
	"github.com/blocksd/blocksd/internal/textfile"
)

// settings are the keys of the YAML file.
type settings struct {
	// Command is the program with its arguments. In an argument, {text:ID} is the text of the input ID, {file:ID} the path of
	// its file, {output} the directory for output files, {task} the task's id. A text instead of a list is run by sh.
	Command command `yaml:"command"`
	// Input is what the program reads on standard input: text, the text of one input; json, the task as one line; or none.
	Input string `yaml:"input"`
	// Part is the input whose text that is; the first one that has a text when it is empty.
	Part string `yaml:"part"`
	// Output is what the program writes on standard output: text, which is the answer; json, lines that are each an event; or
	// files, for what it writes into the directory of {output}, standard output going to the log.
	Output string `yaml:"output"`
	// MIMEType, FileName and OutputID describe the answer of output text.
	MIMEType string `yaml:"mime_type"`
	FileName string `yaml:"file_name"`
	OutputID string `yaml:"output_id"`
	// Stderr is where standard error goes: log, or status, where each line is shown to the consumer.
	Stderr string `yaml:"stderr"`
	// Errors are what the consumer sees when the program ends with an exit code.
	Errors map[int]string `yaml:"errors"`
	// Environment adds variables.
	Environment map[string]string `yaml:"environment"`
	// Dir is the working directory; that of the YAML file when it is empty. Relative paths are relative to that, too.
	Dir string `yaml:"dir"`
	// KillAfter is how long the program may take to end after SIGTERM.
	KillAfter duration `yaml:"kill_after"`
}

// keys are the names of all settings.
var keys = []string{
	"command", "input", "part", "output", "mime_type", "file_name", "output_id", "stderr", "errors", "environment", "dir", "kill_after",
}

// defaultKillAfter leaves time of the 5 s that a canceled task has by default.
const defaultKillAfter = 3 * time.Second

// maxFile bounds the YAML file.
const maxFile = 1 << 20

// The forms of input, output and standard error.
const (
	asText   = "text"
	asJSON   = "json"
	asNone   = "none"
	asFiles  = "files"
	asLog    = "log"
	asStatus = "status"
)

// command is a program with its arguments.
type command []string

// shell runs a command that is a text.
const shell = "/bin/sh"

var shells = []string{"sh", "bash", "dash", "ksh", "zsh"}

// UnmarshalYAML takes a list, or a text for a shell.
func (c *command) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		var text string
		if err := n.Decode(&text); err != nil {
			return err
		}
		if strings.TrimSpace(text) != "" {
			*c = command{shell, "-c", text}
		}
		return nil
	}
	var list []string
	if err := n.Decode(&list); err != nil {
		return fmt.Errorf("line %d: command must be a list of texts, or one text for sh", n.Line)
	}
	*c = list
	return nil
}

// duration is written with a unit: 3s.
type duration time.Duration

// UnmarshalYAML reads a duration.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	parsed, err := time.ParseDuration(n.Value)
	if err != nil || parsed <= 0 {
		return fmt.Errorf("line %d: kill_after must be a duration with a unit, such as 3s, not %q", n.Line, n.Value)
	}
	*d = duration(parsed)
	return nil
}

// load reads a file and finds its program. The error is one sentence.
func load(path string) (settings, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return settings{}, fmt.Errorf("read %s: %w", path, err)
	}
	b, err := smallfile.Read(path, maxFile)
	if err != nil {
		return settings{}, fmt.Errorf("read the settings of the program in %s: %w", path, err)
	}
	s, err := parse(b)
	if err != nil {
		return settings{}, fmt.Errorf("%s cannot be used: %w", path, err)
	}
	dir := filepath.Dir(path)
	if s.Dir == "" {
		s.Dir = dir
	} else if !filepath.IsAbs(s.Dir) {
		s.Dir = filepath.Join(dir, s.Dir)
	}
	if info, err := os.Stat(s.Dir); err != nil || !info.IsDir() {
		return settings{}, fmt.Errorf("%s cannot be used: its dir %s is not a directory", path, s.Dir)
	}
	if s.Command[0], err = find(s.Command[0], dir); err != nil {
		return settings{}, fmt.Errorf("%s cannot be used: %w", path, err)
	}
	return s, nil
}

// parse reads and checks the keys.
func parse(b []byte) (settings, error) {
	b, err := textfile.Decode(b)
	if err != nil {
		return settings{}, err
	}
	documents := yaml.NewDecoder(bytes.NewReader(b))
	var doc, second yaml.Node
	if err := documents.Decode(&doc); errors.Is(err, io.EOF) {
		return settings{}, errors.New(`it has no key "command", which names the program`)
	} else if err != nil {
		return settings{}, fmt.Errorf("it is not YAML: %s", oneLine(err))
	}
	if !errors.Is(documents.Decode(&second), io.EOF) {
		return settings{}, errors.New("it has a second YAML document: put all keys into one")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return settings{}, errors.New("it must hold keys, such as command: [wc, -w]")
	}
	top := doc.Content[0]
	for i := 0; i < len(top.Content); i += 2 {
		if key := top.Content[i]; !slices.Contains(keys, key.Value) {
			return settings{}, fmt.Errorf("line %d: key %q is unknown%s", key.Line, key.Value, known(key.Value))
		}
	}
	s := settings{Input: asText, Output: asText, Stderr: asLog, KillAfter: duration(defaultKillAfter)}
	if err := top.Decode(&s); err != nil {
		return settings{}, errors.New(oneLine(err))
	}
	return s, s.check()
}

// known says which key was meant, or which there are.
func known(key string) string {
	if hint := nearest.Hint(key, keys); hint != "" {
		return hint
	}
	return "; the known keys are " + strings.Join(keys, ", ")
}

func (s settings) check() error {
	for _, v := range []struct {
		key, value string
		may        []string
	}{
		{"input", s.Input, []string{asText, asJSON, asNone}},
		{"output", s.Output, []string{asText, asJSON, asFiles}},
		{"stderr", s.Stderr, []string{asLog, asStatus}},
	} {
		if !slices.Contains(v.may, v.value) {
			return fmt.Errorf("%s must be one of %s, not %q%s", v.key, strings.Join(v.may, ", "), v.value, nearest.Hint(v.value, v.may))
		}
	}
	if len(s.Command) == 0 || s.Command[0] == "" {
		return errors.New(`it has no key "command", which names the program`)
	}
	if strings.ContainsAny(s.Command[0], "{}") {
		return fmt.Errorf("the program %q cannot depend on the task: only its arguments can", s.Command[0])
	}
	for i, a := range s.Command[1:] {
		for _, name := range placeholders(a) {
			if _, _, err := kindOf(name); err != nil {
				return err
			}
			if i > 0 && s.Command[i] == "-c" && slices.Contains(shells, filepath.Base(s.Command[0])) { // the text of a stranger would become a part of the command
				return fmt.Errorf("the shell command holds {%s}: use the variable %s instead, or write command as a list", name, variableOf(name))
			}
		}
	}
	if s.Part != "" && s.Input != asText {
		return errors.New("part is only of use with input: text")
	}
	if s.Output != asText && (s.MIMEType != "" || s.FileName != "" || s.OutputID != "") {
		return errors.New("mime_type, file_name and output_id are only of use with output: text")
	}
	for code := range s.Errors {
		if code < 1 || code > 255 {
			return fmt.Errorf("errors has the exit code %d: they go from 1 to 255", code)
		}
	}
	for name := range s.Environment {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("environment has the name %q, which no variable can have", name)
		}
	}
	return nil
}

// find returns the path of a program: as it is, beside the file, or in PATH.
func find(program, dir string) (string, error) {
	path := program
	if strings.Contains(program, "/") {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return "", fmt.Errorf("its program %s is not there: install it, or correct command", path)
		case info.IsDir() || info.Mode().Perm()&0o111 == 0:
			return "", fmt.Errorf("its program %s cannot be executed: chmod 0755 it, or correct command", path)
		}
		return path, nil
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("its program %s is not in PATH: install it, or write its whole path", program)
	}
	return filepath.Abs(path)
}

// oneLine is an error of YAML, which may have several.
func oneLine(err error) string {
	return strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")
}
