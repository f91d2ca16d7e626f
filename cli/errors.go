package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon"
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/backend"
)

// Exit codes, fixed.
const (
	exitFailure   = 1
	exitUsage     = 2 // of the command line, or of the configuration
	exitAuthFinal = 3 // systemd must not restart the daemon
	exitFailed    = 4 // the task failed
	exitCanceled  = 5 // the task was canceled
	exitTimedOut  = 6 // the task did not end in time
	// exitConfig is exitUsage of run, and of whatever else systemd need not try again until somebody changes something. Go
	// itself ends with 2 on a panic, which is worth another start. It is EX_CONFIG of sysexits.h.
	exitConfig = 78
)

// exitError is an error with its own exit code. A silent one has been printed already.
type exitError struct {
	code   int
	err    error
	silent bool
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func usage(err error) error { return &exitError{code: exitUsage, err: err} }

func exitCode(err error) int {
	var own *exitError
	var configuration config.Problems
	var api *backend.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &configuration):
		return exitUsage
	case errors.Is(err, daemon.ErrAuthFinal):
		return exitAuthFinal
	case errors.As(err, &api) && (api.Final() || api.Status == http.StatusUnauthorized):
		return exitAuthFinal
	}
	return exitFailure
}

// exitCodeOf is exitCode for the command that err comes from.
func exitCodeOf(cmd *cobra.Command, err error) int {
	code := exitCode(err)
	if cmd.CommandPath() == "blocksd run" && (code == exitUsage || errors.Is(err, daemon.ErrUnusable)) {
		return exitConfig
	}
	return code
}

// explain returns the lines that the user reads: one, or one for each problem of a configuration.
func explain(err error) []string {
	var own *exitError
	var configuration config.Problems
	switch {
	case err == nil, errors.As(err, &own) && own.silent:
		return nil
	case errors.As(err, &configuration):
		lines := make([]string, len(configuration))
		for i, p := range configuration {
			lines[i] = p.String()
		}
		return lines
	}
	return []string{strings.ReplaceAll(err.Error(), "\n", "; ")}
}

// errInterrupted is the cause of a context that the user has interrupted.
var errInterrupted = errors.New("interrupted")

// because returns the cause of the end of ctx if ctx has ended, since err follows from it; otherwise err.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}
