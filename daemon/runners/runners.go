// Package runners knows what turns the files of a project into handlers. The binary carries the SDKs of other languages
// and unpacks them, so that a project runs with the SDK that belongs to this daemon; only what those need from others is
// installed by the user.
package runners

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/blocksd/blocksd/internal/atomicfile"
	"github.com/blocksd/blocksd/pluginsdk/node"
	"github.com/blocksd/blocksd/pluginsdk/python"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// DirName is where a daemon unpacks them: in its state directory, or better in a directory that handlers may read, whoever they
// run as.
const DirName = "sdk"

// For are the runners of a daemon with a state directory, and perhaps one for what everybody may read (systemd's
// CacheDirectory=; of several the first counts).
func For(stateDir, cacheDirs string) Runners {
	cache, _, _ := strings.Cut(cacheDirs, ":")
	return Runners{Dir: filepath.Join(cmp.Or(cache, stateDir), DirName)}
}

// Runners are unpacked below a directory.
type Runners struct{ Dir string }

// sdks are what is unpacked, by the directory below Dir.
var sdks = map[string]fs.FS{"node": node.Files, "python": python.Files}

// openDir makes a directory that others may read, whatever the umask is.
func openDir(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o055 == 0o055 {
		return err
	}
	return os.Chmod(path, info.Mode().Perm()|0o055)
}

// Unpack writes the SDKs, where they are not there already or differ. What was installed beside them stays.
func (r Runners) Unpack() error {
	for name, files := range sdks {
		err := openDir(r.Dir)
		if err != nil {
			return fmt.Errorf("unpack the SDK for %s into %s: %w", name, r.Dir, err)
		}
		err = fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			to := filepath.Join(r.Dir, name, filepath.FromSlash(path))
			if e.IsDir() {
				return openDir(to)
			}
			want, err := fs.ReadFile(files, path)
			if err != nil {
				return err
			}
			if have, err := os.ReadFile(to); err == nil && string(have) == string(want) {
				return nil
			}
			return atomicfile.Write(to, want, 0o644)
		})
		if err != nil {
			return fmt.Errorf("unpack the SDK for %s into %s: %w", name, r.Dir, err)
		}
	}
	return nil
}

// All are the runners for projects.
func (r Runners) All() []catalog.Runner {
	return []catalog.Runner{
		{
			Language: "Python", Extensions: []string{".py"}, Own: filepath.Join(".venv", "bin", "python"), Interpreter: "python3",
			Missing: "install Python 3.10 or newer, or make an environment .venv in the project",
			Needed:  []string{filepath.Join(r.Dir, "python")},
			Args:    func(dir, _, _ string) []string { return []string{filepath.Join(r.Dir, "python", "run.py"), dir} },
		},
		{
			Language: "JavaScript or TypeScript", Extensions: []string{".js", ".mjs", ".cjs", ".ts", ".mts"},
			Interpreter: "node", Missing: "install Node.js 20 or newer",
			Needed:    []string{filepath.Join(r.Dir, "node")},
			Installed: []string{filepath.Join(r.Dir, "node", "node_modules", ".package-lock.json")},
			Args: func(dir, file, export string) []string {
				args := []string{filepath.Join(r.Dir, "node", "run.mjs"), "--project", dir, "--file", file}
				if export != "" {
					args = append(args, "--export", export)
				}
				return args
			},
		},
		{
			Language: "YAML", Extensions: []string{".yaml", ".yml"}, Interpreter: execProgram(),
			Missing: "put blocksd-exec, which is built together with blocksd, beside it",
			Args:    func(_, file, _ string) []string { return []string{file} },
		},
	}
}

// execName is the program that runs other programs as handlers.
const execName = "blocksd-exec"

// execProgram is blocksd-exec beside this program, in the usual directory for such helpers, or in PATH.
func execProgram() string {
	self, err := os.Executable()
	if err != nil {
		return execName
	}
	beside := filepath.Join(filepath.Dir(self), execName)
	for _, path := range []string{beside, filepath.Join(filepath.Dir(self), "..", "libexec", "blocksd", execName)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
	if path, err := exec.LookPath(execName); err == nil {
		return path
	}
	return beside
}
