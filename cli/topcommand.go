package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/internal/retry"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const (
	// topEvery is the time between two looks at the daemon.
	topEvery = time.Second
	// topLines is how many of the last lines of a handler can be seen.
	topLines = 500
)

const topLong = `Show the agents, handlers and tasks of a daemon, and the tasks that end in each second, until q is pressed; ? shows the keys.

With --json, and without a screen, it prints one line each second: the status, the tasks and the rate.`

func newTop(a *app) *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{Use: "top", Short: "Watch agents, handlers and tasks on the whole screen", Long: topLong, Args: argsOfUse}
	cmd.Flags().BoolVar(&asJSON, "json", false, "machine-readable output, a line each second")
	a.addSocketFlag(cmd, &socket)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in, inOK := a.Stdin.(*os.File)
		out, outOK := a.Stdout.(*os.File)
		screen := inOK && outOK && isTerminal(in) && isTerminal(out)
		if !screen && !asJSON {
			return usagef("top needs a terminal: use blocksd status --watch, or top --json")
		}
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		source := topSource{func(ctx context.Context) (*control.Client, error) { return a.dialDaemon(ctx, socket) }}
		first := source.snapshot(ctx)
		if first.err != "" {
			return because(ctx, errors.New(first.err))
		}
		if asJSON {
			return a.topJSON(ctx, source, first)
		}
		return a.topScreen(ctx, source, first, in, out)
	}
	return cmd
}

// topSource asks the daemon.
type topSource struct {
	dial func(context.Context) (*control.Client, error)
}

func (s topSource) snapshot(ctx context.Context) topSnapshot {
	c, err := s.dial(ctx)
	if err != nil {
		return topSnapshot{err: err.Error()}
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return topSnapshot{err: err.Error()}
	}
	tasks, err := c.Tasks(ctx)
	if err != nil {
		return topSnapshot{err: err.Error()}
	}
	return topSnapshot{at: time.Now(), status: formOfStatus(status), tasks: formOfTasks(tasks)}
}

// lines are the last ones of a handler.
func (s topSource) lines(ctx context.Context, handler string) ([]string, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out bytes.Buffer
	p := logPrinter{w: &out}
	if err := c.Logs(ctx, &controlv1.LogsRequest{Handler: handler, Lines: topLines}, p.print); err != nil {
		return nil, err
	}
	if out.Len() == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n"), nil
}

// topForm is a line of `top --json`.
type topForm struct {
	Time time.Time `json:"time"`
	// TasksPerSecond is how many have ended per second since the line before.
	TasksPerSecond float64    `json:"tasksPerSecond"`
	Status         statusForm `json:"status"`
	Tasks          []taskForm `json:"tasks"`
}

func (a *app) topJSON(ctx context.Context, source topSource, now topSnapshot) error {
	var state topState
	for {
		state.news(now)
		if now.err != "" {
			return because(ctx, errors.New(now.err))
		}
		form := topForm{Time: now.at.UTC(), Status: now.status, Tasks: now.tasks}
		if n := len(state.rates); n > 0 {
			form.TasksPerSecond = state.rates[n-1]
		}
		enc := json.NewEncoder(a.Stdout)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(form); err != nil {
			return err
		}
		if retry.Pause(ctx, topEvery) != nil {
			return nil // Ctrl-C is the normal end
		}
		if now = source.snapshot(ctx); ctx.Err() != nil {
			return nil
		}
	}
}

func (a *app) topScreen(ctx context.Context, source topSource, first topSnapshot, in io.Reader, out io.Writer) error {
	m := &topProgram{
		state:    topState{style: a.style()},
		snapshot: func() topSnapshot { return source.snapshot(ctx) },
		lines:    func(handler string) ([]string, error) { return source.lines(ctx, handler) },
	}
	m.state.news(first)
	p := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithEnvironment(a.Env), tea.WithoutSignalHandler())
	_, err := p.Run()
	if ctx.Err() != nil { // a signal is a normal end, too
		return nil
	}
	return err
}

// topProgram is top for the terminal library: news and keys come in as messages.
type topProgram struct {
	state    topState
	snapshot func() topSnapshot
	lines    func(handler string) ([]string, error)
}

type (
	topLook  struct{}
	topLined struct {
		handler string
		lines   []string
		err     string
	}
)

// Init implements tea.Model.
func (m *topProgram) Init() tea.Cmd { return m.later() }

// later looks at the daemon again after a while.
func (m *topProgram) later() tea.Cmd {
	return tea.Tick(topEvery, func(time.Time) tea.Msg { return topLook{} })
}

// Update implements tea.Model.
func (m *topProgram) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.state.width, m.state.height = msg.Width, msg.Height
	case topLook:
		return m, tea.Batch(func() tea.Msg { return m.snapshot() }, m.look())
	case topSnapshot:
		m.state.news(msg)
		return m, m.later()
	case topLined:
		m.state.looked(msg.handler, msg.lines, msg.err)
	case tea.KeyPressMsg:
		switch m.state.key(msg.String(), msg.Key().Text) {
		case doQuit:
			return m, tea.Quit
		case doLook:
			return m, m.look()
		}
	}
	return m, nil
}

// look asks for the lines of the handler that is looked into, nil when there is none.
func (m *topProgram) look() tea.Cmd {
	in := m.state.inside
	if in == nil || in.section != handlersSection {
		return nil
	}
	handler := in.name
	return func() tea.Msg {
		lines, err := m.lines(handler)
		if err != nil {
			return topLined{handler: handler, err: err.Error()}
		}
		return topLined{handler: handler, lines: lines}
	}
}

// View implements tea.Model.
func (m *topProgram) View() tea.View {
	v := tea.NewView(m.state.view())
	v.AltScreen = true
	v.WindowTitle = "blocksd top"
	return v
}
