package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/blocksd/blocksd/internal/nearest"
	"github.com/blocksd/blocksd/internal/smallfile"
	"github.com/blocksd/blocksd/internal/textfile"
)

// maxFileBytes bounds the file; a real one has a few kilobytes.
const maxFileBytes = 1 << 20

// file is the path of a configuration file, as a koanf.Provider.
type file string

// ReadBytes implements koanf.Provider.
func (f file) ReadBytes() ([]byte, error) {
	b, err := smallfile.ReadOrWait(string(f), maxFileBytes)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, Problems{{Message: fmt.Sprintf("read configuration file %s: there is no such file", string(f))}}
	case err != nil:
		return nil, Problems{{Message: fmt.Sprintf("read configuration file %s: %s", string(f), err)}}
	}
	return b, nil
}

// Read implements koanf.Provider, which needs either.
func (file) Read() (map[string]any, error) { return nil, errors.ErrUnsupported }

// yamlParser is a koanf.Parser that checks each key of the file at path, and names the line of each problem. It adds the
// entries of lists to those of earlier files, and puts the line of each key into lines.
type yamlParser struct {
	path     string
	lists    map[string][]listEntry
	lines    map[string]int
	problems *Problems // what is wrong with the file; the other keys count nevertheless
}

// Unmarshal implements koanf.Parser.
func (p yamlParser) Unmarshal(b []byte) (map[string]any, error) {
	r := fileReader{dir: filepath.Dir(p.path), lines: p.lines}
	layer := r.file(b)
	for i := range r.problems {
		r.problems[i].File = p.path
	}
	*p.problems = append(*p.problems, r.problems...)
	p.joinLists(layer)
	return layer, nil
}

// Marshal implements koanf.Parser; nothing writes configuration files.
func (yamlParser) Marshal(map[string]any) ([]byte, error) { return nil, errors.ErrUnsupported }

// parseFile parses the content of a file in dir.
func parseFile(b []byte, dir string) (map[string]any, Problems) {
	r := fileReader{dir: dir, lines: map[string]int{}}
	return r.file(b), r.problems
}

func (r *fileReader) file(b []byte) map[string]any {
	root, problems := rootOf(b)
	r.problems = problems
	if root == nil {
		return nil
	}
	return r.table("", keys, root)
}

// rootOf returns the mapping that a file consists of, nil when it is empty.
func rootOf(b []byte) (*yaml.Node, Problems) {
	b, err := textfile.Decode(b)
	if err != nil {
		return nil, Problems{{Message: "the file cannot be read: " + err.Error()}}
	}
	var doc yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(b))
	for n := 1; ; n++ {
		var next yaml.Node
		err := documents.Decode(&next)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, Problems{{Message: "the file is not YAML: " + strings.TrimPrefix(oneLine(err.Error()), "yaml: ")}}
		}
		if n > 1 { // all but one would count for nothing, and which one is not obvious
			return nil, Problems{{Line: next.Line, Message: "a second YAML document begins here: put all keys into one, without --- between them"}}
		}
		doc = next
	}
	if len(doc.Content) == 0 { // empty or only comments
		return nil, nil
	}
	return doc.Content[0], nil
}

type fileReader struct {
	dir      string         // relative paths are relative to it
	lines    map[string]int // of each key that has a value, by its path; an entry of a list has one, too
	problems Problems
}

func (r *fileReader) add(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: n.Line, Message: oneLine(fmt.Sprintf(format, args...))})
}

// table reads a mapping. prefix is the dotted path in front of its keys.
func (r *fileReader) table(prefix string, ks []key, n *yaml.Node) map[string]any {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" { // all keys below it are commented out
		return nil
	}
	if n.Kind != yaml.MappingNode {
		what := "the file"
		if prefix != "" {
			what = "the value of " + strings.TrimSuffix(prefix, ".")
		}
		r.add(n, "%s must be a mapping of keys", what)
		return nil
	}
	out := map[string]any{}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, v := n.Content[i], n.Content[i+1]
		path := prefix + name.Value
		if first, ok := seen[name.Value]; ok {
			r.add(name, "key %q is set twice, here and in line %d: keep one", path, first)
			continue
		}
		seen[name.Value] = name.Line
		k, ok := lookup(ks, name.Value)
		if !ok {
			r.unknown(prefix, ks, name)
			continue
		}
		if v.Kind == yaml.AliasNode {
			r.add(v, "key %q is a YAML alias, which is not supported: write the value", path)
			continue
		}
		switch k.kind {
		case table:
			if t := r.table(path+".", k.keys, v); t != nil {
				out[k.name] = t
			}
		case tables:
			if l, ok := r.objects(path, k, v); ok {
				out[k.name] = l
			}
		default:
			r.value(out, path, k, v)
		}
	}
	return out
}

func (r *fileReader) unknown(prefix string, ks []key, name *yaml.Node) {
	// A key at the wrong level is a likelier mistake than a misspelled one.
	for _, p := range paths() {
		if strings.HasSuffix(p, "."+name.Value) {
			r.add(name, "key %q is unknown, did you mean %q?", prefix+name.Value, p)
			return
		}
	}
	if n := nearest.Name(name.Value, names(ks)); n != "" {
		r.add(name, "key %q is unknown, did you mean %q?", prefix+name.Value, prefix+n)
		return
	}
	r.add(name, "key %q is unknown; the known keys are %s", prefix+name.Value, strings.Join(names(ks), ", "))
}

func (r *fileReader) value(out map[string]any, path string, k key, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // it keeps its default
	}
	var v any
	if err := n.Decode(&v); err != nil {
		r.add(n, "key %q cannot be read: %s", path, err)
		return
	}
	typed, why := k.parse(v)
	if why != "" {
		r.add(n, "key %q %s", path, why)
		return
	}
	out[k.name] = k.absolute(typed, r.dir)
	r.lines[path] = n.Line
}

func (r *fileReader) objects(path string, k key, n *yaml.Node) ([]any, bool) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, false
	}
	if n.Kind != yaml.SequenceNode {
		r.add(n, "key %q must be a list", path)
		return nil, false
	}
	out := []any{}
	for i, e := range n.Content {
		m := r.table(fmt.Sprintf("%s[%d].", path, i), k.keys, e)
		r.lines[fmt.Sprintf("%s[%d]", path, i)] = e.Line
		for _, sub := range k.keys {
			if v, _ := m[sub.name].(string); sub.required && v == "" {
				r.add(e, "%s[%d] lacks the required key %q", path, i, sub.name)
			}
			if _, given := m[sub.name]; !given && sub.def != nil && m != nil {
				m[sub.name] = sub.def
			}
		}
		out = append(out, m)
	}
	return out, true
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
