// Package cli is the command line of blocksd. Commands get everything from their Invocation, so that tests run them as
// users do.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/blocksd/blocksd/daemon/logging"
	"github.com/blocksd/blocksd/internal/nearest"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// Invocation is one run of the program.
type Invocation struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Env            []string // KEY=value
	Interrupts     Interrupts

	// The time of a call, for tests: withTimeout, unless it is nil, says when --timeout has passed, and a canceled task may
	// take as long as unhurried to end.
	withTimeout func(context.Context, time.Duration, error) (context.Context, context.CancelFunc)
	unhurried   time.Duration
}

// Main runs the program as the operating system started it and returns its exit code.
func Main() int {
	launch.Shim(os.Args) // does not return when this is the start of a handler
	if os.Getenv("GOGC") == "" {
		// The live heap is small and each task allocates much: a few MiB more heap halve the work of the collector.
		debug.SetGCPercent(200)
	}
	if os.Getpid() == 1 && os.Getenv(initMark) == "" {
		return runAsInit(os.Stderr)
	}
	_ = os.Unsetenv(initMark) // it is not for children
	// First of all: a signal during a start must not leave a half-started daemon behind.
	interrupts, stop := catchSignals(repeatWindow)
	defer stop()
	return Run(context.Background(), Invocation{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Environ(), Interrupts: interrupts,
	})
}

// Run runs one command to its end and returns its exit code.
func Run(ctx context.Context, in Invocation) int {
	a := &app{Invocation: in}
	root := newRoot(a)
	root.SetArgs(in.Args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = a.helpLost
	}
	err = a.withDevHint(err)
	code := exitCodeOf(cmd, err)
	a.report(explain(err), code)
	return code
}

// report writes why the command failed. In the journal these are records like those of the log, with their priority, also
// when there is no log yet.
func (a *app) report(lines []string, code int) {
	if f, ok := a.Stderr.(*os.File); ok && logging.InJournal(f, a.getenv("JOURNAL_STREAM")) {
		if log, _, err := logging.New(logging.Config{Writer: f, Level: "error", Format: "text", Journal: true}); err == nil {
			if code == exitConfig {
				log.Error(fmt.Sprintf("the daemon does not start, and systemd does not try again (exit status %d) until you correct this and start it:", code))
			}
			for _, line := range lines {
				log.Error(line)
			}
			return
		}
	}
	for _, line := range lines {
		fmt.Fprintln(a.Stderr, "blocksd: "+printableLines(line)) // errors repeat texts of others
	}
}

// app is what all commands share.
type app struct {
	Invocation
	// nowhere: a command needs a network, and nothing names one. said: what dimOnce says has been said.
	nowhere, said bool
	// ofDev: the network and the key are those of blocksd dev, which nobody has named.
	ofDev bool
	// helpLost is why help could not be written.
	helpLost error
}

func (a *app) getenv(name string) string {
	value := ""
	for _, kv := range a.Env { // the last one wins, as in package os
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value = v
		}
	}
	return value
}

const rootHelp = `blocksd puts handlers on the Blocks Network. A handler is a separate program, in
any language, that blocksd starts, supervises and gives tasks to.

Try it, on this machine only:  blocksd dev --plugins bin/plugins`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use: "blocksd", Short: "Put handlers on the Blocks Network", Long: rootHelp,
		SilenceErrors: true, SilenceUsage: true, DisableSuggestions: true,
		Args: cobra.ArbitraryArgs, // so that RunE gets an unknown command
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { a.adoptDev(cmd) }
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(flagError)
	root.Version = version()
	root.SetVersionTemplate(versionText())
	root.Flags().Bool("version", false, "show the version")
	for _, c := range []func(*app) *cobra.Command{
		newDev, newSandbox, newRun, newLauncher, newCall, newFollow, newCalls,
		newStatus, newHandlers, newTasks, newCancel, newRestart, newHandler, newLogs, newEvents, newTop, newDrain, newUndrain, newReload, newDebug,
		newRegister, newUnregister, newAgents, newWhoami,
		newCard, newCheck, newConfig, newDoctor, newMan, newVersion,
	} {
		root.AddCommand(c(a))
	}
	strictCompletion(root)
	strictHelp(root)
	a.fitHelp(root)
	return root
}

// strictCompletion makes cobra's own command for completion scripts refuse mistakes as our commands do.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	cmd := child(root, "completion")
	cmd.Args = cobra.ArbitraryArgs // so that RunE gets an unknown shell
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		shells := ": use blocksd completion " + strings.Join(commandNames(cmd), "|")
		if len(args) == 0 {
			return usagef("completion needs a shell%s", shells)
		}
		return usagef("unknown shell %q of completion%s", args[0], hintOr(args[0], commandNames(cmd), shells))
	}
	for _, shell := range cmd.Commands() {
		shell.Args = argsOfUse
	}
}

// strictHelp does the same with help.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help := child(root, "help")
	help.Run = nil
	help.RunE = func(_ *cobra.Command, args []string) error {
		cmd, rest, err := root.Find(args)
		if len(rest) > 0 {
			return unknownCommand(cmd, rest[0])
		}
		if err != nil {
			return usage(err)
		}
		cmd.InitDefaultHelpFlag()
		return cmd.Help()
	}
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	all := cmd.Commands()
	return all[slices.IndexFunc(all, func(c *cobra.Command) bool { return c.Name() == name })]
}

// unknownCommand is the error for a name that is not a command of parent.
func unknownCommand(parent *cobra.Command, name string) error {
	of := ""
	if parent.HasParent() {
		of = " of " + commandName(parent)
	}
	return usagef("unknown command %q%s%s", name, of, hintOr(name, commandNames(parent), ": see "+parent.CommandPath()+" --help"))
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	return names
}

// flagError is the error for a wrong flag; it names the nearest known flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if args := cmd.Flags().Args(); len(args) > 0 && cmd.HasAvailableSubCommands() { // the flag may be one of the command that was meant
			return unknownCommand(cmd, args[0])
		}
		name := unknown.GetSpecifiedName()
		written, hint := "--"+name, nearestFlag(cmd, name)
		if unknown.GetSpecifiedShortnames() != "" {
			written, hint = "-"+name, flagWithInitial(cmd, name)
		}
		if hint == "" {
			hint = ": see " + cmd.CommandPath() + " --help"
		}
		return usagef("unknown flag %s of %s%s", written, cmd.CommandPath(), hint)
	}
	text := err.Error()
	if e, ok := errors.AsType[*strconv.NumError](err); ok { // Go's name of the function says nothing to users
		why := "must be a whole number"
		switch {
		case e.Func == "ParseBool":
			why = "must be true or false"
		case e.Func == "ParseUint" && strings.HasPrefix(e.Num, "-"):
			why = "must not be less than 0"
		case errors.Is(e.Err, strconv.ErrRange):
			why = "is too large or too small"
		}
		text = strings.TrimSuffix(text, e.Error()) + why
	} else {
		text = strings.Replace(text, ": time: ", ": must be a duration with a unit, such as 30s or 1m30s: ", 1)
	}
	if cmd.HasParent() {
		text = commandName(cmd) + ": " + text
	}
	return usage(errors.New(text))
}

// nearestFlag is the hint at the flag that name was probably meant to be. Users write the flags of commands in front of
// them, too.
func nearestFlag(cmd *cobra.Command, name string) string {
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	if best := nearest.Name(name, known); best != "" {
		return ", did you mean --" + best + "?"
	}
	for _, sub := range cmd.Commands() {
		sub.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	}
	if best := nearest.Name(name, known); best != "" {
		return fmt.Sprintf(", did you mean --%s? It belongs behind a command: %s COMMAND --%s", best, cmd.CommandPath(), best)
	}
	return ""
}

// flagWithInitial is the hint at a flag that begins with a letter.
func flagWithInitial(cmd *cobra.Command, letter string) string {
	hint := ""
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if hint == "" && strings.HasPrefix(f.Name, letter) {
			hint = ", did you mean --" + f.Name + "?"
		}
	})
	return hint
}

// commandName is the command without the program's name.
func commandName(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.CommandPath(), "blocksd ") }

// hintOr ends a sentence about an unknown name with the nearest known one, else with fallback.
func hintOr(name string, known []string, fallback string) string {
	if h := nearest.Hint(name, known); h != "" {
		return h
	}
	return fallback
}

// argsOfUse checks the arguments against the Use line of the command: how many there are, where one in brackets is optional,
// and that names are valid UTF-8, as nothing else could be sent. TEXT is for the command to check.
func argsOfUse(cmd *cobra.Command, args []string) error {
	names := strings.Fields(cmd.Use)[1:]
	required := len(names)
	if i := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(name, "[") }); i >= 0 {
		required = i
	}
	usage := strings.Join(append([]string{cmd.CommandPath()}, names...), " ")
	if cmd.Example != "" {
		usage = strings.TrimSpace(cmd.Example)
	}
	switch {
	case len(args) < required:
		return usagef("%s needs an argument: use %s", commandName(cmd), usage)
	case len(args) > len(names):
		return usagef("%s takes no argument %q: use %s", commandName(cmd), args[len(names)], usage)
	}
	for i, arg := range args {
		if !utf8.ValidString(arg) && strings.Trim(names[i], "[]") != "TEXT" {
			return usagef("%s: the argument %q is not valid UTF-8, which every name is", commandName(cmd), arg)
		}
	}
	return nil
}
