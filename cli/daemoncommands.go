package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/daemon/roster"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// The commands that make one call to a running daemon. A new one is a function here and its name in newRoot.

func newHandlers(a *app) *cobra.Command {
	return daemonCommand[[]handlerForm]{
		use: "handlers", short: "Show the handlers and their processes",
		call: func(ctx context.Context, c *control.Client, _ []string) ([]handlerForm, error) {
			hs, err := c.Handlers(ctx)
			return formOfHandlers(hs), err
		},
		show: func(w io.Writer, hs []handlerForm) error {
			if err := a.screen().handlers(w, hs, time.Now(), handlerPathColumns); err != nil {
				return err
			}
			return a.screen().handlerReasons(w, hs)
		},
	}.command(a)
}

func newTasks(a *app) *cobra.Command {
	return daemonCommand[[]taskForm]{
		use: "tasks", short: "Show the tasks that have not ended",
		call: func(ctx context.Context, c *control.Client, _ []string) ([]taskForm, error) {
			ts, err := c.Tasks(ctx)
			return formOfTasks(ts), err
		},
		show: func(w io.Writer, ts []taskForm) error { return a.screen().tasks(w, ts, time.Now()) },
	}.command(a)
}

type cancelForm struct {
	TaskID   string `json:"taskId"`
	Canceled bool   `json:"canceled"`
}

func newCancel(a *app) *cobra.Command {
	return daemonCommand[cancelForm]{
		use: "cancel TASK", short: "Ask a running task to end",
		call: func(ctx context.Context, c *control.Client, args []string) (cancelForm, error) {
			return cancelForm{args[0], true}, c.CancelTask(ctx, args[0])
		},
		show: func(w io.Writer, f cancelForm) error {
			_, err := fmt.Fprintf(w, "task %s was asked to end\n", f.TaskID)
			return err
		},
	}.command(a)
}

type restartForm struct {
	Handler   string `json:"handler"`
	Restarted bool   `json:"restarted"`
}

func newRestart(a *app) *cobra.Command {
	return daemonCommand[restartForm]{
		use: "restart HANDLER", short: "Replace the processes of a handler without losing a task",
		long: "Replace the processes of a handler. New processes start beside the old ones and take the tasks once they are ready; the old\n" +
			"ones finish theirs. A handler that is not ready is tried at once, even in quarantine. The command returns when the new\n" +
			"processes take tasks.",
		interrupted: "the daemon goes on replacing the processes: blocksd handlers shows them",
		call: func(ctx context.Context, c *control.Client, args []string) (restartForm, error) {
			return restartForm{args[0], true}, c.RestartHandler(ctx, args[0])
		},
		show: func(w io.Writer, f restartForm) error {
			_, err := fmt.Fprintf(w, "handler %s was restarted\n", f.Handler)
			return err
		},
	}.command(a)
}

type rollbackForm struct {
	Handler string `json:"handler"`
	SHA256  string `json:"sha256"`
}

func newHandlerRollback(a *app) *cobra.Command {
	return daemonCommand[rollbackForm]{
		use: "rollback HANDLER", short: "Return a handler to the program that it ran before",
		long: "Return a handler to the program that it ran before, without losing a task. It keeps that program until the handler's file\n" +
			"changes. A second rollback returns to the newer program.",
		interrupted: "the daemon may go on: blocksd handlers shows what runs",
		call: func(ctx context.Context, c *control.Client, args []string) (rollbackForm, error) {
			sum, err := c.RollbackHandler(ctx, args[0])
			return rollbackForm{args[0], sum}, err
		},
		show: func(w io.Writer, f rollbackForm) error {
			_, err := fmt.Fprintf(w, "handler %s runs %s until its file changes\n", f.Handler, f.SHA256)
			return err
		},
	}.command(a)
}

type assignForm struct {
	Handler string `json:"handler"`
	Agent   string `json:"agent"`
}

func newHandlerAssign(a *app) *cobra.Command {
	return daemonCommand[assignForm]{
		use: "assign HANDLER AGENT", short: "Let a handler be an agent that another handler had",
		long: "Let a handler be an agent that another handler had. A handler without a card in a file says itself which agents it is; it\n" +
			"does not get the name of an agent that another handler had until this command says so. The other way is to name it in a\n" +
			"card, in the configuration or beside the handler. The daemon remembers it.",
		interrupted: "the daemon may go on: blocksd status shows what is served",
		call: func(ctx context.Context, c *control.Client, args []string) (assignForm, error) {
			return assignForm{args[0], args[1]}, c.AssignAgent(ctx, args[0], args[1])
		},
		show: func(w io.Writer, f assignForm) error {
			_, err := fmt.Fprintf(w, "handler %s may be agent %s\n", f.Handler, f.Agent)
			return err
		},
	}.command(a)
}

type drainForm struct {
	Drained bool `json:"drained"`
}

func newDrain(a *app) *cobra.Command {
	return daemonCommand[drainForm]{
		use: "drain", short: "Take the agents off the network; the daemon keeps running",
		long: "Take every agent off the network. An agent takes no more tasks; its running tasks may continue for the configured drain,\n" +
			"then they are canceled. The command returns when all agents have left; interrupting it does not stop the drain. The daemon\n" +
			"and its handlers keep running. blocksd undrain or a restart of the daemon undoes it.",
		interrupted: "the daemon goes on draining: blocksd undrain ends that",
		call: func(ctx context.Context, c *control.Client, _ []string) (drainForm, error) {
			return drainForm{true}, c.Drain(ctx)
		},
		show: func(w io.Writer, _ drainForm) error {
			_, err := fmt.Fprintln(w, "all agents have left the network")
			return err
		},
	}.command(a)
}

type undrainForm struct {
	Undrained bool `json:"undrained"`
}

func newUndrain(a *app) *cobra.Command {
	return daemonCommand[undrainForm]{
		use: "undrain", short: "Bring the agents back after a drain",
		call: func(ctx context.Context, c *control.Client, _ []string) (undrainForm, error) {
			before, err := c.Status(ctx)
			if err != nil {
				return undrainForm{}, err
			}
			drained := slices.ContainsFunc(before.GetConditions(), func(c *controlv1.Condition) bool { return c.GetCode() == string(roster.Drained) })
			return undrainForm{drained}, c.Undrain(ctx)
		},
		show: func(w io.Writer, f undrainForm) error {
			text := "the agents take tasks again, or are connecting"
			if !f.Undrained {
				text = "the daemon was not drained"
			}
			_, err := fmt.Fprintln(w, text)
			return err
		},
	}.command(a)
}
