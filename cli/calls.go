package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/client"
)

const (
	// defaultCalls is how many tasks are listed without --limit, callsPage how many one request asks for.
	defaultCalls = 20
	callsPage    = 100
	// controlTimeout bounds a request about one task.
	controlTimeout = 30 * time.Second
)

// taskStates are what --state takes.
var taskStates = []string{"pending", "running", "completed", "failed", "canceled"}

func newCalls(a *app) *cobra.Command {
	var (
		f      client.TaskFilter
		state  string
		limit  int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use: "calls", Short: "List the tasks that this API key has sent, and control them", Args: callsArgs,
		Long: "List the tasks that this API key has sent, newest first. The network's list lags a little behind the tasks.\n" +
			"The subcommands ask for something to happen to one of them; follow shows what comes of it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("calls: --limit must be at least 1, not %d", limit)
			}
			if state != "" && !slices.Contains(taskStates, state) {
				return usagef("calls: unknown state %q%s", state, hintOr(state, taskStates, ": there are "+strings.Join(taskStates, ", ")))
			}
			if !utf8.ValidString(f.Agent) {
				return usagef("calls: --agent %q is not valid UTF-8, which every name is", f.Agent)
			}
			f.State = client.State(state)
			return a.listCalls(cmd.Context(), f, limit, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Agent, "agent", "", "only those for this agent")
	flags.StringVar(&state, "state", "", "only those in this state: "+strings.Join(taskStates, ", "))
	flags.IntVar(&limit, "limit", defaultCalls, "how many")
	flags.BoolVar(&asJSON, "json", false, "print a JSON array")
	for _, v := range callVerbs {
		cmd.AddCommand(newCallVerb(a, v))
	}
	return cmd
}

// callsArgs refuses the name of a subcommand that does not exist.
func callsArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return nil
}

func (a *app) listCalls(ctx context.Context, f client.TaskFilter, limit int, asJSON bool) error {
	ctx, stop := a.interruptible(ctx)
	defer stop()
	c, err := a.newClient(ctx, "calls", &warningPrinter{})
	if err != nil {
		return notListed(err)
	}
	defer c.Close()
	f.Limit = min(limit, callsPage)
	found := []listedCall{}
	for t, err := range c.AllTasks(ctx, f) {
		if err != nil {
			return notListed(err)
		}
		if found = append(found, listedCall{t.ID, t.Agent, string(t.State), t.CreatedAt}); len(found) == limit {
			break
		}
	}
	if asJSON {
		return a.printJSON(found)
	}
	if len(found) == 0 {
		fmt.Fprintln(a.Stdout, "no tasks")
		return nil
	}
	rows := [][]string{{"TASK", "AGENT", "STATE", "AGE"}}
	for _, t := range found {
		rows = append(rows, []string{t.TaskID, t.Agent, t.State, ageOf(t.CreatedAt)})
	}
	return table(a.Stdout, rows)
}

// listedCall is a task as --json shows it.
type listedCall struct {
	TaskID    string `json:"taskId"`
	Agent     string `json:"agent"`
	State     string `json:"state"`
	CreatedAt string `json:"createdAt"`
}

// ageOf is how long ago a time was; the time itself where it cannot be read.
func ageOf(at string) string {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return at
	}
	return age(time.Since(t))
}

func notListed(err error) error {
	if own, ok := errors.AsType[*exitError](err); ok {
		return own
	}
	return fmt.Errorf("calls: %w", err)
}

// callVerb is something to ask the network about a task.
type callVerb struct {
	name, short, done string
	do                func(*client.Client, context.Context, string) error
}

var callVerbs = []callVerb{
	{"cancel", "Ask a task to end", "was asked to end", (*client.Client).Cancel},
	{"terminate", "End a task for good", "is being terminated", (*client.Client).Terminate},
	{"pause", "Ask the agent to pause a task", "was asked to pause", (*client.Client).Pause},
	{"resume", "Ask the agent to go on with a paused task", "was asked to go on", (*client.Client).Resume},
	{"retry", "Ask the network to run a task once more", "is to run once more", (*client.Client).Retry},
}

func newCallVerb(a *app, v callVerb) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: v.name + " TASK", Short: v.short, Args: argsOfUse,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := a.interruptible(cmd.Context())
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, controlTimeout)
			defer cancel()
			return a.controlCall(ctx, v, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) controlCall(ctx context.Context, v callVerb, task string, asJSON bool) error {
	what := fmt.Sprintf("calls %s %s", v.name, task)
	c, err := a.newClient(ctx, what, &warningPrinter{})
	var before client.State
	if err == nil {
		defer c.Close()
		if row, rowErr := c.Task(ctx, task); rowErr == nil { // the request says what is wrong
			before = row.State
		}
		if err = v.do(c, ctx, task); err != nil {
			what = "calls" // the error says the rest
		}
	}
	if own, ok := errors.AsType[*exitError](err); ok {
		return own
	}
	if _, unknown := errors.AsType[*client.NotFoundError](err); unknown {
		return fmt.Errorf("calls %s %s: the network knows no such task that this API key may control: see blocksd calls", v.name, task)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if asJSON {
		return a.printJSON(struct {
			TaskID string `json:"taskId"`
			Asked  string `json:"asked"`
		}{task, v.name})
	}
	if v.name != "retry" && slices.Contains([]client.State{client.Completed, client.Failed, client.Canceled}, before) {
		fmt.Fprintf(a.Stdout, "task %s had ended as %s before\n", printable(task), before)
		return nil
	}
	fmt.Fprintf(a.Stdout, "task %s %s; blocksd follow %s shows what comes of it\n", printable(task), v.done, printable(task))
	return nil
}
