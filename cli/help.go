package cli

import (
	"bytes"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// fitHelp has help fit the terminal. Elsewhere it stays as it is, so that a search finds whole lines. That it cannot be written is
// an error of the command, which cobra has no way to say.
func (a *app) fitHelp(root *cobra.Command) {
	print := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		var b bytes.Buffer
		out := cmd.OutOrStdout()
		cmd.SetOut(&b)
		print(cmd, args)
		cmd.SetOut(out)
		help := b.String()
		if isTerminal(a.Stdout) {
			help = fitted(help, a.width())
		}
		_, a.helpLost = io.WriteString(out, help)
	})
}

// described is a line of a list: a name, two spaces or more, and what is said of it.
var described = regexp.MustCompile(`^ +\S.*?  +`)

// fitted breaks the lines that are too long. What is said of a flag or a command stays in its column.
func fitted(help string, width int) string {
	var b strings.Builder
	for line := range strings.Lines(help) {
		line = strings.TrimSuffix(line, "\n")
		if columnsOf(line) <= width {
			b.WriteString(line + "\n")
			continue
		}
		first := described.FindString(line)
		if columnsOf(first) > width/2 {
			first = line[:len(line)-len(strings.TrimLeft(line, " "))]
		}
		for i, part := range wrap(strings.Repeat(" ", columnsOf(first)), line[len(first):], width) {
			if i == 0 {
				part = first + part[len(first):]
			}
			b.WriteString(part + "\n")
		}
	}
	return b.String()
}
