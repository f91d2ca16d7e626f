// Command exec (installed as blocksd-exec) makes an agent of any program, without a line of code: a YAML file says which
// program runs for each task, and how it gets the task and gives its answer.
//
// The daemon starts it for a project whose card names a YAML file. In a plugins directory such a file is a handler by
// itself, if its first line is #! with the path of this program.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

// exitUnusable (EX_CONFIG) tells the daemon that the last line says why this handler cannot work.
const exitUnusable = 78

func main() {
	if len(os.Args) != 2 || strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, "use blocksd-exec FILE, with a YAML file that says which program to run")
		os.Exit(exitUnusable)
	}
	s, err := load(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUnusable)
	}
	starter := newStarter()
	pluginsdk.Serve(pluginsdk.Handler{
		Name: strings.TrimSuffix(filepath.Base(os.Args[1]), filepath.Ext(os.Args[1])), Version: "0.1.0", Run: (&runner{s, starter}).run,
	})
}
