package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil/scriptcommand"
)

var update = flag.Bool("update", false, "write the golden files and scripts")

// leakChecked runs the tests and then checks for leaked goroutines.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"blocksd": func() { os.Exit(Main()) }})
}

// fileLimit bounds the wait for what another process does.
const fileLimit = 3 * time.Minute

// TestScripts runs the program as users do; see testdata/scripts.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/scripts", UpdateScripts: *update, RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptcommand.Exits, "waitfile": scriptcommand.WaitFile, "until": scriptcommand.Until,
			// hangup NAME: sends SIGHUP to a background command.
			"hangup": func(ts *testscript.TestScript, _ bool, args []string) {
				for _, c := range ts.BackgroundCmds() {
					if c.Process != nil && strings.Contains(strings.Join(c.Args, " "), args[0]) {
						ts.Check(c.Process.Signal(syscall.SIGHUP))
					}
				}
			},
			// standstill NAME: a background command stands still for two seconds, as on a busy machine.
			"standstill": func(ts *testscript.TestScript, _ bool, args []string) {
				for _, c := range ts.BackgroundCmds() {
					if c.Process != nil && strings.Contains(strings.Join(c.Args, " "), args[0]) {
						ts.Check(c.Process.Signal(syscall.SIGSTOP))
						over := make(chan struct{})
						time.AfterFunc(2*time.Second, func() {
							_ = c.Process.Signal(syscall.SIGCONT)
							close(over)
						})
						ts.Defer(func() { <-over })
					}
				}
			},
			// other: takes the API key of another organization.
			"other": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("BLOCKS_API_KEY", strings.Split(ts.Getenv("BLOCKSD_SANDBOX_KEYS"), ",")[0])
			},
			// login: leaves a login of Blocks' own tool for the network, and takes the variables away that name it.
			"login": func(ts *testscript.TestScript, _ bool, _ []string) {
				path := filepath.Join(ts.Getenv("HOME"), ".config", "blocks", "contexts.json")
				ts.Check(os.MkdirAll(filepath.Dir(path), 0o700))
				ts.Check(os.WriteFile(path, fmt.Appendf(nil,
					`{"schema_version":3,"active":"local","profiles":{"local":{"base_url":"http://%s","orgs":{"org_1":{"api_key":%q,"key_id":"k7","expires_at":%q}}}}}`,
					ts.Getenv("BLOCKSD_PUBNUB_ORIGIN"), ts.Getenv("MINE"), time.Now().Add(100*time.Hour).Format(time.RFC3339)), 0o600))
				ts.Setenv("BLOCKS_CDM_URL", "")
			},
			// samekeys FILE FILE: the keys in two env files are the same.
			"samekeys": func(ts *testscript.TestScript, _ bool, args []string) {
				var keys [2]string
				for i, path := range args {
					keys[i] = regexp.MustCompile(`(?m)^(BLOCKS_API_KEY|BLOCKSD_SANDBOX_[A-Z_]*)=.*$`).FindString(ts.ReadFile(path))
				}
				if keys[0] == "" || keys[0] != keys[1] {
					ts.Fatalf("%q and %q", keys[0], keys[1])
				}
			},
			// sourced PATH: sets the variables of an env file.
			"sourced": func(ts *testscript.TestScript, _ bool, args []string) {
				for line := range lines(ts.ReadFile(args[0])) {
					name, value := cutVariable(line)
					ts.Setenv(name, value)
				}
			},
		},
	})
}
