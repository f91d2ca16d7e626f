package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/network/card"
)

// CardFile is the card of a project, in its directory.
const CardFile = "agent-card.json"

// A project is a directory with an agent card, as Blocks' own command line interface makes it: runtime.handler of the card
// names a file in the directory, which a runner of its language turns into a handler. The trust rule is that of plugins
// directories.

// Project is how the handler of a project is started.
type Project struct {
	// Interpreter and Args start the handler; both are empty for a file that is a program itself.
	Interpreter string
	Args        []string
	// Needed are files and directories that what runs it reads.
	Needed []string
	// Content is the checksum of the card and of all source files.
	Content string
	// Environment are the variables of the project's .env file, KEY=value, without those of the network.
	Environment []string
}

// Runner turns the files of one language into handlers.
type Runner struct {
	// Language is its name for people.
	Language string
	// Extensions of the files, in lower case and with the dot.
	Extensions []string
	// Own is the interpreter in the project that comes first, relative to it; "" for none.
	Own string
	// Interpreter is the program that else is looked for in PATH; a path is taken as it is.
	Interpreter string
	// Missing says what to do when there is no interpreter.
	Missing string
	// Needed are files and directories that it reads.
	Needed []string
	// Installed are files that change when what the runner needs is installed; a change starts its handlers again.
	Installed []string
	// Args of the interpreter, for the handler in a file of a directory.
	Args func(dir, file, export string) []string
}

// Projects looks at the projects in dirs, in order. A project that cannot be used is reported in skipped; its name is ""
// when its card cannot be read.
func (sc *Scanner) Projects(dirs []string, runners []Runner) (found []Found, skipped []Skip) {
	s := scan{hashes: &sc.hashes, uid: uint32(os.Getuid()), accounts: sc.accounts, warnOnly: sc.WarnOnly, warned: map[string]bool{}, byName: map[string]string{}}
	for _, dir := range dirs {
		s.project(dir, runners)
	}
	return s.found, s.skipped
}

// skipProject reports a project that is not taken.
func (s *scan) skipProject(name, root, format string, args ...any) {
	s.skipped = append(s.skipped, Skip{Path: root, Name: name, Reason: fmt.Sprintf("project %s is not loaded because "+format, append([]any{root}, args...)...)})
}

func (s *scan) project(dir string, runners []Runner) {
	root, err := filepath.Abs(dir)
	if err != nil {
		root = filepath.Clean(dir)
	}
	abs, err := filepath.EvalSymlinks(root)
	if err != nil {
		s.skipProject("", root, "it cannot be read: %v; create it, or remove it from the projects", plain(err))
		return
	}
	if reason := s.distrustPath(abs); s.refuses(abs, reason) {
		s.skipProject("", root, "%s", reason)
		return
	}
	cardPath := filepath.Join(abs, CardFile)
	c, err := card.Load(cardPath)
	if os.IsNotExist(statError(cardPath)) {
		s.skipProject("", root, "it has no %s: make it with blocksd handler new, or name the directory that has one", CardFile)
		return
	}
	if err != nil {
		s.skipProject("", root, "%v", err)
		return
	}
	if other, ok := s.byName[c.AgentName]; ok {
		s.skipProject("", root, "project %s serves the agent %s already: give the card another agentName", other, c.AgentName)
		return
	}
	f, reason := s.handlerOf(root, abs, c, runners)
	if reason != "" {
		s.skipProject(c.AgentName, root, "%s", reason)
		return
	}
	s.byName[c.AgentName] = root
	s.found = append(s.found, f)
}

// handlerOf finds the handler of a project; reason is the end of a sentence.
func (s *scan) handlerOf(root, abs string, c card.Card, runners []Runner) (f Found, reason string) {
	path, err := filepath.EvalSymlinks(filepath.Join(abs, c.Handler))
	if err != nil {
		return f, fmt.Sprintf("its card names the handler %s, which cannot be read: %v; correct runtime.handler in %s", c.Handler, plain(err), CardFile)
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return f, fmt.Sprintf("its card names the handler %s, which is not a file: correct runtime.handler in %s", c.Handler, CardFile)
	}
	if !within(abs, path) {
		if reason := s.distrustPath(filepath.Dir(path)); s.refuses(path, reason) {
			return f, reason
		}
	}
	if reason := s.distrust(path, info); s.refuses(path, reason) {
		return f, reason
	}
	content, reason := s.sources(abs, runners)
	if reason != "" {
		return f, reason
	}
	sum, err := s.hashes.Of(path)
	if err != nil {
		return f, fmt.Sprintf("its handler %s cannot be read: %v", path, plain(err))
	}
	f = Found{
		Name: c.AgentName, Path: path, Root: root, Dir: abs, SHA256: sum, Kind: Script, CardPath: filepath.Join(abs, CardFile),
		Project: &Project{Content: content},
	}
	if f.Project.Environment, err = readDotEnv(filepath.Join(abs, dotEnv)); err != nil {
		return f, fmt.Sprintf("its file %s cannot be read: %v", dotEnv, err)
	}
	extension := strings.ToLower(filepath.Ext(path))
	i := slices.IndexFunc(runners, func(r Runner) bool { return slices.Contains(r.Extensions, extension) })
	if i < 0 {
		if f.Kind, reason = s.program(path, info, runners); reason != "" {
			return f, reason
		}
		return f, ""
	}
	r := runners[i]
	if f.Project.Interpreter, reason = r.interpreter(abs); reason != "" {
		return f, reason
	}
	f.Project.Needed = r.Needed
	f.Project.Args = r.Args(abs, path, c.HandlerExport)
	return f, ""
}

// program is the kind of a handler that is a program itself.
func (s *scan) program(path string, info fs.FileInfo, runners []Runner) (Kind, string) {
	if info.Mode().Perm()&0o111 == 0 {
		var known []string
		for _, r := range runners {
			known = append(known, r.Extensions...)
		}
		return 0, fmt.Sprintf("nothing is known that runs its handler %s: it is not executable (chmod 0755 it), and its name ends with none of %s", path, strings.Join(known, " "))
	}
	kind, reason := kindOf(path)
	if reason != "" {
		return 0, fmt.Sprintf("its handler %s cannot be run: %s", path, reason)
	}
	return kind, ""
}

// interpreter finds what runs the files; reason is the end of a sentence.
func (r Runner) interpreter(dir string) (path, reason string) {
	if r.Own != "" {
		own := filepath.Join(dir, r.Own)
		if _, err := os.Lstat(own); err == nil {
			if info, err := os.Stat(own); err != nil || info.Mode().Perm()&0o111 == 0 {
				return "", fmt.Sprintf("%s leads to no program: make the environment again, or remove it", own)
			}
			return own, ""
		}
	}
	if filepath.IsAbs(r.Interpreter) {
		if _, err := os.Stat(r.Interpreter); err != nil {
			return "", fmt.Sprintf("%s, which runs handlers in %s, does not exist: %s", r.Interpreter, r.Language, r.Missing)
		}
		return r.Interpreter, ""
	}
	path, err := exec.LookPath(r.Interpreter)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Sprintf("its handler is written in %s and there is no %s in PATH: %s", r.Language, r.Interpreter, r.Missing)
	}
	return path, ""
}

// skippedDirs hold what a project does not consist of itself. Hidden directories are among them.
var skippedDirs = []string{"node_modules", "__pycache__", "venv"}

// SkippedDir reports whether a directory of this name is no part of a project's sources.
func SkippedDir(name string) bool {
	return strings.HasPrefix(name, ".") || slices.Contains(skippedDirs, name) || strings.HasSuffix(name, ".egg-info")
}

// What a handler writes into its own directory must not start it again, so only names that sources have count.
var (
	sourceExtensions = []string{".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx", ".yaml", ".yml", ".sh"}
	sourceNames      = []string{CardFile, dotEnv, "package.json", "package-lock.json", "tsconfig.json", "pyproject.toml", "requirements.txt"}
)

// Source reports whether a file of this name belongs to the sources of a project.
func Source(name string) bool {
	return slices.Contains(sourceExtensions, strings.ToLower(filepath.Ext(name))) && !strings.HasPrefix(name, ".") || slices.Contains(sourceNames, name)
}

// What was installed for a project: a change there starts its handler again, too. The files are those that package
// managers write last.
var installed = []string{"node_modules/.package-lock.json", ".venv/pyvenv.cfg", ".venv/lib/python*/site-packages"}

// maxSources bounds what is read of a project.
const maxSources = 10_000

// sources returns the checksum of everything that a project consists of; reason is the end of a sentence.
func (s *scan) sources(dir string, runners []Runner) (sum, reason string) {
	h := sha256.New()
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		isSource := !e.IsDir() && Source(e.Name())
		if e.IsDir() && path != dir && SkippedDir(e.Name()) {
			return fs.SkipDir
		}
		if !e.IsDir() && !isSource {
			return nil
		}
		info, err := os.Stat(path) // through links
		if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
			return nil // removed since, or it leads nowhere
		}
		if why := s.distrust(path, info); s.refuses(path, why) {
			reason = why
			return fs.SkipAll
		}
		if info.IsDir() {
			return nil
		}
		if n++; n > maxSources {
			reason = fmt.Sprintf("it has more than %d source files: name the directory of the project itself", maxSources)
			return fs.SkipAll
		}
		one, err := s.hashes.Of(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %s\n", path, one)
		return nil
	})
	if err != nil {
		return "", fmt.Sprintf("its files cannot be read: %v", err)
	}
	stamps := installedIn([]string{dir})
	for _, r := range runners {
		stamps = append(stamps, r.Installed...)
	}
	for _, path := range stamps {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintf(h, "%q %d\n", path, info.ModTime().UnixNano())
		}
	}
	return hex.EncodeToString(h.Sum(nil)), reason
}

// within reports whether path is below dir; both are clean and free of links.
func within(dir, path string) bool { return strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") }

func statError(path string) error {
	_, err := os.Lstat(path)
	return err
}
