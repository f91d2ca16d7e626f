package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/blocksd/blocksd/internal/atomicfile"
)

func newMan(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "man [COMMAND]", Short: "Print the manual page of a command, or write all of them",
		Long: "Print the manual page of blocksd, or of one of its commands, as man(1) reads it: blocksd man call | man -l -. With --dir it\n" +
			"writes the pages of all commands into a directory, as a package does.",
		Args: cobra.ArbitraryArgs, // a command may have several words
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if dir != "" {
				if len(args) > 0 {
					return usagef("man: --dir writes all pages: leave %q out", args[0])
				}
				return writeManPages(root, dir)
			}
			page, rest, err := root.Find(args)
			if len(rest) > 0 {
				return unknownCommand(page, rest[0])
			}
			if err != nil {
				return usage(err)
			}
			return writeManPage(a.Stdout, page)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write the pages of all commands into this directory")
	return cmd
}

// writeManPages writes a file for every command.
func writeManPages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	for _, cmd := range withSubcommands(root) {
		var b strings.Builder
		if err := writeManPage(&b, cmd); err != nil {
			return err
		}
		path := filepath.Join(dir, manName(cmd)+".1")
		if err := atomicfile.Write(path, []byte(b.String()), 0o644); err != nil {
			return fmt.Errorf("write manual page %s: %w", path, err)
		}
	}
	return nil
}

// withSubcommands returns a command and all below it that users see.
func withSubcommands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			all = append(all, withSubcommands(sub)...)
		}
	}
	return all
}

// manName is how the page of a command is called.
func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// writeManPage writes the page of a command. It depends on nothing but the program, so that two builds agree.
func writeManPage(w io.Writer, cmd *cobra.Command) error {
	cmd.InitDefaultHelpFlag()
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %q 1 \"\" %q \"User Commands\"\n", strings.ToUpper(manName(cmd)), "blocksd "+release)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	b.WriteString(".SH SYNOPSIS\n.B " + roff(cmd.CommandPath()) + "\n" + roff(strings.TrimSpace(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath()))) + "\n")
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	b.WriteString(".SH DESCRIPTION\n" + roffParagraphs(long))
	if cmd.HasExample() {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roff(cmd.Example) + "\n.fi\n")
	}
	roffFlags(&b, "OPTIONS", cmd.NonInheritedFlags())
	roffFlags(&b, "GLOBAL OPTIONS", cmd.InheritedFlags())
	if subs := withSubcommands(cmd)[1:]; len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range subs {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.TrimPrefix(sub.CommandPath(), cmd.CommandPath()+" ")), roff(sub.Short))
		}
	}
	var also []string
	if cmd.HasParent() {
		also = append(also, manName(cmd.Parent()))
	}
	for _, sub := range withSubcommands(cmd)[1:] {
		also = append(also, manName(sub))
	}
	slices.Sort(also)
	for i, name := range also {
		also[i] = "\\fB" + roff(name) + "\\fP(1)"
	}
	if len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n" + strings.Join(also, ",\n") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func roffFlags(b *strings.Builder, title string, flags *pflag.FlagSet) {
	first := true
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if first {
			b.WriteString(".SH " + title + "\n")
			first = false
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "\\fB" + roff("--"+f.Name) + "\\fP"
		if f.Shorthand != "" {
			name = "\\fB" + roff("-"+f.Shorthand) + "\\fP, " + name
		}
		if value != "" {
			name += " \\fI" + roff(value) + "\\fP"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", name, roff(usage))
	})
}

// roffParagraphs is a text whose paragraphs are parted by empty lines.
func roffParagraphs(text string) string {
	var out []string
	for _, p := range strings.Split(text, "\n\n") {
		out = append(out, roff(p))
	}
	return strings.Join(out, "\n.PP\n") + "\n"
}

// roff escapes text: characters beyond ASCII, a backslash, a hyphen, which is to stay one, and what would be a request at the beginning of a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.ContainsFunc(text, beyondASCII) {
		var b strings.Builder
		for _, r := range text {
			if beyondASCII(r) {
				fmt.Fprintf(&b, `\[u%04X]`, r)
			} else {
				b.WriteRune(r)
			}
		}
		text = b.String()
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func beyondASCII(r rune) bool { return r > unicode.MaxASCII }
