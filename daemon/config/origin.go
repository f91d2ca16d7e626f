package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/knadh/koanf/v2"
)

// The layers that a value may come from.
const (
	SourceDefault  = "default"
	SourceFile     = "file"
	SourceVariable = "variable"
	SourceFlag     = "flag"
	// SourceBefore is where a value comes from that waits for a restart of the daemon to change.
	SourceBefore = "before"
)

// Origin says where a value comes from: one of the sources, and which file, variable or flag.
type Origin struct{ Source, Where string }

func inFile(path string, line int) Origin {
	if line > 0 {
		path = fmt.Sprintf("%s:%d", path, line)
	}
	return Origin{SourceFile, path}
}

// origins say where the values of a configuration come from.
type origins struct {
	keys map[string]Origin // by the path of a key that is not in a list
	// lists are the entries of all files, by the path of their list.
	lists map[string][]listEntry
}

// listEntry is an entry of a list as it stands in a file.
type listEntry struct {
	values map[string]any
	file   string
	line   int
	lines  map[string]int // of the keys that it has
}

func newOrigins() origins {
	return origins{keys: map[string]Origin{}, lists: map[string][]listEntry{}}
}

// note remembers where the values of a layer come from.
func (o origins) note(layer *koanf.Koanf, origin func(path string) Origin) {
	leaves("", keys, func(path string, k key) {
		if k.kind != tables && layer.Exists(path) {
			o.keys[path] = origin(path)
		}
	})
}

// of returns the origin of a key by its path, which may be in an entry of a list: handlers[0].name.
func (o origins) of(path string) (Origin, bool) {
	if origin, ok := o.keys[path]; ok {
		return origin, true
	}
	var index int
	list, rest, ok := strings.Cut(path, "[")
	if _, err := fmt.Sscanf(rest, "%d]", &index); !ok || err != nil || index >= len(o.lists[list]) {
		return Origin{}, false
	}
	e := o.lists[list][index]
	line := e.line
	if _, sub, ok := strings.Cut(rest, "."); ok {
		if line, ok = e.lines[sub]; !ok {
			return Origin{}, false
		}
	}
	return inFile(e.file, line), true
}

// locate says where a problem with the value of a key is, if it comes from a file, a variable or a flag.
func (o origins) locate(p *Problem) {
	origin, ok := o.of(p.key)
	if !ok { // of a key of an entry that was left out, the entry
		if at := strings.LastIndexByte(p.key, '.'); at > 0 {
			origin, ok = o.of(p.key[:at])
		}
	}
	switch {
	case !ok:
	case origin.Source == SourceFile:
		p.File = origin.Where
		if at := strings.LastIndexByte(origin.Where, ':'); at > 0 {
			if n, err := fmt.Sscanf(origin.Where[at:], ":%d", &p.Line); n == 1 && err == nil {
				p.File = origin.Where[:at]
			}
		}
	case origin.Source == SourceVariable: // a flag is in front of whoever gave it
		p.Message += fmt.Sprintf(" (set by the variable %s)", origin.Where)
	}
}

// Problem is something wrong with the value of a key, with the place that the value comes from. The key may be in an entry
// of a list: handlers[0].path.
func (l Loaded) Problem(key, message string) Problem {
	p := Problem{Message: message, key: key}
	l.origins.locate(&p)
	return p
}

// joinLists adds the entries of the lists of a file to those of the files before it. An entry with the name of an earlier
// one takes its place, so that a fragment can replace one handler. Two in one file stay two, for validate to complain of.
func (p yamlParser) joinLists(layer map[string]any) {
	for _, list := range keys {
		entries, ok := layer[list.name].([]any)
		if list.kind != tables || !ok {
			continue
		}
		before := len(p.lists[list.name])
		for i, e := range entries {
			values, _ := e.(map[string]any)
			if values == nil { // it is none, which is a problem already
				values = map[string]any{}
			}
			prefix := fmt.Sprintf("%s[%d]", list.name, i)
			entry := listEntry{values: values, file: p.path, line: p.lines[prefix], lines: map[string]int{}}
			for path, line := range p.lines {
				if sub, ok := strings.CutPrefix(path, prefix+"."); ok {
					entry.lines[sub] = line
				}
			}
			id := list.keys[0].name
			earlier := slices.IndexFunc(p.lists[list.name][:before], func(other listEntry) bool { return other.values[id] == values[id] })
			if earlier >= 0 {
				p.lists[list.name][earlier] = entry
			} else {
				p.lists[list.name] = append(p.lists[list.name], entry)
			}
		}
		all := make([]any, len(p.lists[list.name]))
		for i, e := range p.lists[list.name] {
			all[i] = e.values
		}
		layer[list.name] = all
	}
}

// files are the configuration file and the fragments, from weakest to strongest. warnings are about files beside them
// that look like fragments and are none.
func (s Sources) files() (paths, warnings []string, ps Problems) {
	if s.File != "" {
		paths = append(paths, s.File)
	}
	if s.Fragments == "" {
		return paths, nil, nil
	}
	entries, err := os.ReadDir(s.Fragments)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return paths, nil, Problems{{Message: fmt.Sprintf("read the configuration fragments: %s", err)}} // names the path
	}
	for _, e := range entries { // in the order of their names
		path := filepath.Join(s.Fragments, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case filepath.Ext(path) == ".yaml":
			paths = append(paths, path)
		case filepath.Ext(path) == ".yml":
			warnings = append(warnings, fmt.Sprintf("file %s is ignored: name it *.yaml", path))
		}
	}
	return paths, warnings, nil
}
