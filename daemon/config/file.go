package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/blocksd/blocksd/internal/nearest"
)

// maxFileBytes bounds the file; a real one has a few kilobytes.
const maxFileBytes = 1 << 20

// readFile reads a YAML file and checks each of its keys, with the line in which it stands.
func readFile(path string) (map[string]any, Problems) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, Problems{{Message: fmt.Sprintf("read configuration file %s: there is no such file", path)}}
	case err != nil:
		return nil, Problems{{Message: fmt.Sprintf("read configuration file: %s", err)}} // names the path
	case len(b) > maxFileBytes:
		return nil, Problems{{File: path, Message: fmt.Sprintf("the file has %d bytes, at most %d are read", len(b), maxFileBytes)}}
	}
	layer, ps := parseFile(b)
	for i := range ps {
		ps[i].File = path
	}
	if ps == nil {
		if dir, err := filepath.Abs(filepath.Dir(path)); err == nil {
			resolvePaths(layer, dir)
		}
	}
	return layer, ps
}

func parseFile(b []byte) (map[string]any, Problems) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, Problems{{Message: "the file is not YAML: " + strings.TrimPrefix(oneLine(err.Error()), "yaml: ")}}
	}
	if len(doc.Content) == 0 { // empty or nothing but comments
		return nil, nil
	}
	r := fileReader{}
	m := r.table("", keys, doc.Content[0])
	return m, r.problems
}

type fileReader struct{ problems Problems }

func (r *fileReader) add(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: n.Line, Message: oneLine(fmt.Sprintf(format, args...))})
}

// table reads a mapping. prefix is the dotted path before its keys.
func (r *fileReader) table(prefix string, ks []key, n *yaml.Node) map[string]any {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" { // a heading whose keys are all commented out
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
			r.add(name, "key %q stands here and in line %d: keep one", path, first)
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
	// A key of another level is the likelier mistake than a misspelt one.
	for _, p := range paths("", keys) {
		if strings.HasSuffix(p, "."+name.Value) {
			r.add(name, "key %q is unknown, did you mean %q?", prefix+name.Value, p)
			return
		}
	}
	if n := nearest.Name(name.Value, names(ks)); n != "" {
		r.add(name, "key %q is unknown, did you mean %q?", prefix+name.Value, prefix+n)
		return
	}
	r.add(name, "key %q is unknown: known are %s", prefix+name.Value, strings.Join(names(ks), ", "))
}

func (r *fileReader) value(out map[string]any, path string, k key, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // left to its default
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
	out[k.name] = typed
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
		for _, sub := range k.keys {
			if v, _ := m[sub.name].(string); sub.required && v == "" {
				r.add(e, "%s[%d] lacks the required key %q", path, i, sub.name)
			}
		}
		out = append(out, m)
	}
	return out, true
}

// pathKeys are the keys of a file whose relative paths are relative to it.
var pathKeys = map[string][]string{"agents": {"card", "key_file"}, "handlers": {"path", "dir"}}

func resolvePaths(layer map[string]any, dir string) {
	resolve := func(m map[string]any, name string) {
		if p, ok := m[name].(string); ok && p != "" && !filepath.IsAbs(p) {
			m[name] = filepath.Join(dir, p)
		}
	}
	for list, names := range pathKeys {
		objects, _ := layer[list].([]any)
		for _, o := range objects {
			for _, name := range names {
				if m, ok := o.(map[string]any); ok {
					resolve(m, name)
				}
			}
		}
	}
	resolve(layer, "state_dir")
	resolve(layer, "socket")
	if m, ok := layer["network"].(map[string]any); ok {
		resolve(m, "api_key_file")
	}
	if m, ok := layer["plugins"].(map[string]any); ok {
		dirs, _ := m["dirs"].([]string)
		for i, d := range dirs {
			if !filepath.IsAbs(d) {
				dirs[i] = filepath.Join(dir, d)
			}
		}
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
