package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
)

// Commands find a network of blocksd dev by themselves, when nothing names another network or daemon: its env file is in the
// user's own state directory. They say so in one line.

// devProbeTimeout bounds the question whether a network of dev still answers: long enough for one that stands still for a
// moment. Where there is none any more, the answer comes at once.
const devProbeTimeout = 5 * time.Second

// maxEnvFile bounds an env file, in bytes.
const maxEnvFile = 64 << 10

// devVariables are those that dev has left for others, nil when it does not run, as far as the file says.
func (a *app) devVariables() map[string]string {
	dir, err := a.devStateDir("")
	if err != nil {
		return nil
	}
	f, err := os.Open(filepath.Join(dir, devEnvFile))
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxEnvFile {
		return nil
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return nil // somebody else could lead us anywhere
	}
	text := make([]byte, info.Size())
	n, _ := f.Read(text)
	vars := map[string]string{}
	for line := range strings.Lines(string(text[:n])) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			vars[name] = unquoteShell(value)
		}
	}
	return vars
}

// unquoteShell takes off the quotes that sandbox.WriteEnvFile puts around a value.
func unquoteShell(s string) string {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return s
	}
	return strings.ReplaceAll(s[1:len(s)-1], `'\''`, "'")
}

// dialDaemon connects to the daemon at the socket that --socket or BLOCKSD_SOCKET names, else to the usual one, else to that
// of dev.
func (a *app) dialDaemon(ctx context.Context, socket string) (*control.Client, error) {
	path := a.socketPath(socket)
	c, err := control.Dial(ctx, path)
	if err == nil || socket != "" || a.getenv("BLOCKSD_SOCKET") != "" || ctx.Err() != nil {
		return c, err
	}
	if dev := a.devVariables()["BLOCKSD_SOCKET"]; dev != "" {
		if c, err := control.Dial(ctx, dev); err == nil {
			a.dimOnce("using the daemon of blocksd dev at " + dev)
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w; to try one on this machine: blocksd dev --plugins DIR", err)
}

// consumerCommands and registryCommands need a network and a key, and find those of dev. All of them know a stored login too:
// for those of the registry it comes before dev, but a task goes to it only where no dev runs: it may cost money.
var (
	consumerCommands = []string{"call", "follow", "calls"}
	registryCommands = []string{"agents", "register", "unregister", "whoami"}
)

// networkVariables name a network or a key; with one of them, dev is not looked for.
var networkVariables = []string{"BLOCKS_API_KEY", "BLOCKS_CDM_URL", "BLOCKS_BACKEND_URL", "BLOCKSD_PUBNUB_ORIGIN"}

// adoptDev gives a command the network of dev, if nothing names another one and it answers.
func (a *app) adoptDev(cmd *cobra.Command) {
	for cmd.HasParent() && cmd.Parent().HasParent() {
		cmd = cmd.Parent()
	}
	ofRegistry := slices.Contains(registryCommands, cmd.Name())
	if !ofRegistry && !slices.Contains(consumerCommands, cmd.Name()) {
		return
	}
	if slices.ContainsFunc(networkVariables, func(name string) bool { return a.getenv(name) != "" }) {
		return
	}
	if _, err := config.StoredLogin(a.getenv); ofRegistry && !errors.Is(err, config.ErrNoKey) {
		return // whoever has logged in means that network
	}
	vars := a.devVariables()
	origin := vars["BLOCKSD_PUBNUB_ORIGIN"]
	if origin != "" {
		if conn, err := net.DialTimeout("tcp", origin, devProbeTimeout); err == nil {
			conn.Close()
			for _, name := range networkVariables {
				if value := vars[name]; value != "" {
					a.Env = append(a.Env, name+"="+value)
				}
			}
			a.ofDev = true
			a.dimOnce("using the network of blocksd dev at " + origin)
			return
		}
	}
	a.nowhere = true
}

// withDevHint adds to the error of a command without a network how to have one.
func (a *app) withDevHint(err error) error {
	if a.nowhere && err != nil && strings.Contains(err.Error(), "there is no API key") {
		return fmt.Errorf("%w; to try a network on this machine: blocksd dev --plugins DIR", err)
	}
	return err
}

// dimOnce says on standard error, once, what was not asked for.
func (a *app) dimOnce(text string) {
	if a.said {
		return
	}
	a.said = true
	s := style{isTerminal(a.Stderr) && a.getenv("NO_COLOR") == ""}
	fmt.Fprintln(a.Stderr, s.of(dim, printable(text)))
}
