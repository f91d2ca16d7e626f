package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/blocksd/blocksd/daemon/logging"
)

// asks reports whether there is somebody to ask: standard input and standard error are a terminal.
func (a *app) asks() bool {
	in, ok := a.Stdin.(*os.File)
	out, also := a.Stderr.(*os.File)
	return ok && also && logging.IsTerminal(in) && logging.IsTerminal(out)
}

// confirm asks a question that only yes answers with yes. An end of the input, or of ctx, is a no.
func (a *app) confirm(ctx context.Context, question string) bool {
	fmt.Fprintf(a.Stderr, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // ends with the input; the process ends with the command
		line, _ := bufio.NewReader(a.Stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case text := <-answer:
		return text == "y" || text == "yes"
	case <-ctx.Done():
		fmt.Fprintln(a.Stderr)
		return false
	}
}
