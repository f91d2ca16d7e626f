// Package scaffold makes projects of handlers: each has a card, a handler, a test and a README, builds, and keeps the
// handler contract as it is.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/template"

	"github.com/blocksd/blocksd/internal/nearest"
)

//go:embed templates
var templates embed.FS

// Languages are what a project can be written in.
var Languages = []string{"go", "python", "node", "exec"}

// Project is what to make.
type Project struct {
	// Dir is the directory to make; its last element is the project's name.
	Dir string
	// Language is one of Languages.
	Language string
	// Stream adds a stream to the card, which the handler writes.
	Stream bool
	// Module and Version are, in Go, the module of the project and the version of blocksd that it needs; Replace is a
	// directory that takes the place of that version, "" for none.
	Module, Version, Replace string
}

// fields are what the templates know.
type fields struct {
	Name, Agent, Package, Handler       string
	Module, Version, Replace, GoVersion string
	Stream                              bool
}

// handlers are the values of runtime.handler in the card.
var handlers = map[string]string{"python": "./handler.py", "node": "./handler.mjs", "exec": "./handler.yaml"}

// executable are the files that are programs.
var executable = []string{"work.sh", "test.sh"}

// maxName bounds the name of a project: that of an agent is a part of channel names.
const maxName = 64

// check returns the name of the project and of its agent.
func (p Project) check() (name, agent string, err error) {
	if !slices.Contains(Languages, p.Language) {
		return "", "", fmt.Errorf("there is no language %q%s: the languages are %s", p.Language, nearest.Hint(p.Language, Languages), strings.Join(Languages, ", "))
	}
	name = filepath.Base(p.Dir)
	agent = strings.ReplaceAll(name, "-", "_")
	good := func(r rune) bool {
		return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if strings.IndexFunc(agent, func(r rune) bool { return !good(r) }) >= 0 || agent == "" || len(agent) > maxName || strings.HasPrefix(name, "-") {
		return "", "", fmt.Errorf("the name %q cannot be that of an agent: use up to %d letters, digits, underscores and hyphens", name, maxName)
	}
	return name, agent, nil
}

// Make writes a project and returns the paths of its files, relative to it. The directory must not be there, or be empty.
func Make(p Project) (files []string, err error) {
	name, agent, err := p.check()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(p.Dir)
	switch {
	case err == nil && len(entries) > 0:
		return nil, fmt.Errorf("make the project %s: the directory is there and not empty: choose another name", p.Dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("make the project %s: %w", p.Dir, err)
	}
	f := fields{
		Name: name, Agent: agent, Package: strings.ToLower(name), Handler: handlers[p.Language], Stream: p.Stream,
		Module: p.Module, Version: p.Version, Replace: p.Replace, GoVersion: goVersion(),
	}
	if f.Handler == "" {
		f.Handler = "./" + name
	}
	if f.Module == "" {
		f.Module = "example.com/" + name
	}
	// Everything is made before anything is written.
	made := map[string][]byte{}
	for _, dir := range []string{"common", p.Language} {
		all, err := fs.ReadDir(templates, "templates/"+dir)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			t, err := template.ParseFS(templates, "templates/"+dir+"/"+e.Name())
			if err != nil {
				return nil, err
			}
			var b bytes.Buffer
			if err := t.Execute(&b, f); err != nil {
				return nil, err
			}
			file := strings.TrimSuffix(e.Name(), ".tmpl")
			if file == "gitignore" {
				file = ".gitignore"
			}
			made[file] = b.Bytes()
			files = append(files, file)
		}
	}
	slices.Sort(files)
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the project %s: %w", p.Dir, err)
	}
	for _, file := range files {
		mode := os.FileMode(0o644)
		if slices.Contains(executable, file) {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(p.Dir, file), made[file], mode); err != nil {
			return nil, fmt.Errorf("make the project %s: %w", p.Dir, err)
		}
	}
	return files, nil
}

// goVersion is that of the toolchain that built this program, without its last part.
func goVersion() string {
	parts := strings.SplitN(strings.TrimPrefix(runtime.Version(), "go"), ".", 3)
	if len(parts) < 2 || strings.ContainsAny(parts[0]+parts[1], " -") {
		return "1.26"
	}
	return parts[0] + "." + parts[1]
}
