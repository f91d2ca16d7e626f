package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/cli/scaffold"
	"github.com/blocksd/blocksd/internal/shell"
)

func newHandlerNew(a *app) *cobra.Command {
	var p scaffold.Project
	var asJSON bool
	cmd := &cobra.Command{
		Use: "new NAME", Short: "Make the project of a handler, with card, test and README", Args: argsOfUse,
		Long: "Make the project of a handler in the directory NAME: its card, its code, its test and a README. It is complete: it\n" +
			"answers with the text that it gets, in capitals. The last part of NAME is the name of the agent.",
		Example: "  blocksd handler new shout --lang python\n  blocksd dev --project shout",
	}
	f := cmd.Flags()
	f.StringVar(&p.Language, "lang", "", "language: "+strings.Join(scaffold.Languages, ", "))
	f.BoolVar(&p.Stream, "stream", false, "the handler also writes a stream")
	f.StringVar(&p.Module, "module", "", "Go: path of the module (default example.com/NAME)")
	f.StringVar(&p.Replace, "replace", "", "Go: directory of blocksd to build with, instead of a released version (default: the one that this program was built in, if it lies there)")
	f.BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if p.Language == "" {
			return usagef("%s needs --lang: one of %s", commandName(cmd), strings.Join(scaffold.Languages, ", "))
		}
		p := p
		p.Dir, p.Version = args[0], releasedVersion()
		if p.Replace != "" {
			abs, err := filepath.Abs(p.Replace)
			if err == nil {
				_, err = os.Stat(filepath.Join(abs, "go.mod"))
			}
			if err != nil {
				return usagef("--replace must name the directory of a Go module: %v", err)
			}
			p.Replace = abs
		} else if self, err := os.Executable(); err == nil && p.Language == "go" {
			p.Replace = checkoutOf(self)
		}
		files, err := scaffold.Make(p)
		if err != nil {
			return usage(err)
		}
		if asJSON {
			return a.printJSON(struct {
				Dir   string   `json:"dir"`
				Files []string `json:"files"`
			}{p.Dir, files})
		}
		fmt.Fprintf(a.Stdout, "made %s: %s\n\n", p.Dir, strings.Join(files, ", "))
		if p.Language == "go" && p.Replace == "" {
			fmt.Fprintf(a.Stdout, "  # only if Go cannot fetch blocksd: (cd %s && go mod edit -replace %s=/path/to/a/copy/of/it)\n", shell.Word(p.Dir), module)
		}
		if p.Language == "go" {
			fmt.Fprintf(a.Stdout, "  cd %s && go mod tidy && go build && cd -\n", shell.Word(p.Dir))
		}
		_, err = fmt.Fprintf(a.Stdout, "  %s handler check %s\n  %s dev --project %s\n", programName(), shell.Word(p.Dir), programName(), shell.Word(p.Dir))
		return err
	}
	return cmd
}

// module is the path of blocksd for Go.
const module = "github.com/blocksd/blocksd"

// checkoutOf is the copy of the repository that a program lies in, as bin/blocksd does; "" for none.
func checkoutOf(program string) string {
	program, err := filepath.EvalSymlinks(program)
	if err != nil {
		return ""
	}
	for dir := filepath.Dir(program); ; dir = filepath.Dir(dir) {
		if b, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil {
			if first, _, _ := strings.Cut(string(b), "\n"); strings.TrimSpace(first) == "module "+module {
				return dir
			}
			return ""
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// releasedVersion is the version of this module that a project should need.
func releasedVersion() string {
	info, ok := debug.ReadBuildInfo()
	if ok && strings.HasPrefix(info.Main.Version, "v") && !strings.ContainsAny(info.Main.Version, "+-") {
		return info.Main.Version
	}
	return "v" + release
}
