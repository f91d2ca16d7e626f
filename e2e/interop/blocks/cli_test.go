package blocks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// cliDeadline bounds one command.
const cliDeadline = 2 * time.Minute

// cli is the official command line interface with a home of its own, and so an account of its own.
type cli struct {
	path, home, dir string
	env             system.Env
	network         system.Env // of the sandbox, for what the tests ask themselves
}

// newCLI returns one that knows the network only by its discovery document.
func newCLI(t testing.TB, network system.Env) *cli {
	t.Helper()
	home := t.TempDir()
	return &cli{
		path: cached(t, "cli/node_modules/@blocks-network/cli-linux-x64/blocks"), home: home, dir: home, network: network,
		env: system.Env{
			"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TERM=dumb",
			// It looks for updates of its own; nothing but the sandbox is to be reached.
			"HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1,localhost",
			"BLOCKS_CDM_URL=" + network.Get("BLOCKS_CDM_URL"),
		},
	}
}

// backend is the URL of the network.
func (c *cli) backend() string {
	return strings.TrimSuffix(c.network.Get("BLOCKS_CDM_URL"), "/api/v1/cdm")
}

func (c *cli) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

// run runs a command and returns its exit code and everything that it printed. Its input is an empty pipe: the null
// device would count as a terminal.
func (c *cli) run(t testing.TB, args ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cliDeadline)
	defer cancel()
	cmd := c.command(ctx, args...)
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("blocks %s: %v %v\n%s", strings.Join(args, " "), err, ctx.Err(), out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// must runs a command that has to succeed.
func (c *cli) must(t testing.TB, args ...string) string {
	t.Helper()
	code, out := c.run(t, args...)
	if code != 0 {
		t.Fatalf("blocks %s ended with %d:\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// fails runs a command that has to be refused.
func (c *cli) fails(t testing.TB, args ...string) string {
	t.Helper()
	code, out := c.run(t, args...)
	if code == 0 {
		t.Fatalf("blocks %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	return out
}

// login gives it an API key of the network.
func (c *cli) login(t testing.TB, key string) {
	t.Helper()
	c.must(t, "login", c.backend(), "--api-key", key, "--no-write-env")
}

// project writes a card, its name changed, and a handler into a new directory, and works there from now on.
func (c *cli) project(t testing.TB, agent string) {
	t.Helper()
	c.dir = filepath.Join(c.home, agent)
	c.ok(t, os.Mkdir(c.dir, 0o755))
	c.ok(t, os.WriteFile(filepath.Join(c.dir, "handler.py"), []byte("def handler(task, ctx):\n    return {}\n"), 0o644))
	doc, err := json.Marshal(args{
		"identity":     args{"agentName": agent, "displayName": "Made by a test", "description": "d", "version": "1.0.0", "provider": args{"organization": "blocksd"}},
		"capabilities": args{"taskKinds": []string{"request"}},
		"tags":         []args{{"id": "test", "name": "Test"}},
		"runtime":      args{"handler": "./handler.py"},
	})
	c.ok(t, err)
	c.ok(t, os.WriteFile(filepath.Join(c.dir, "agent-card.json"), doc, 0o644))
}

func (c *cli) ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// agent asks the registry for an agent with an API key ("" for nobody) and returns what it lists, nil for none.
func (c *cli) agent(t testing.TB, key, name string) map[string]any {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.backend()+"/api/v1/registry/agents?agentName="+name, nil)
	c.ok(t, err)
	req.Close = true
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	c.ok(t, err)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil
	}
	var body struct{ Agent map[string]any }
	c.ok(t, json.NewDecoder(resp.Body).Decode(&body))
	return body.Agent
}

// listed is what matters of an entry of the registry.
func listed(entry map[string]any) string {
	if entry == nil {
		return "not there"
	}
	parts := []string{entry["listing"].(string), entry["billingMode"].(string)}
	if price, _ := entry["pricePerTask"].(string); price != "" {
		parts = append(parts, price)
	}
	return strings.Join(parts, " ")
}

// cliNetwork starts a sandbox and returns its environment with the keys of two organizations.
func cliNetwork(t testing.TB) (env system.Env, key, other string) {
	t.Helper()
	_, env = bin.Sandbox(t, writeCards(t))
	other, _, _ = strings.Cut(env.Get("BLOCKSD_SANDBOX_KEYS"), ",")
	return env, env.Get("BLOCKS_API_KEY"), other
}

func TestCLILoginByKey(t *testing.T) {
	t.Parallel()
	env, key, _ := cliNetwork(t)
	c := newCLI(t, env)
	c.fails(t, "login", c.backend(), "--api-key", "bk_wrong", "--no-write-env")
	c.login(t, key)
	var who struct {
		OrgID   string `json:"org_id"`
		OrgName string `json:"org_name"`
	}
	out := c.must(t, "whoami", "--json")
	if err := json.Unmarshal([]byte(out), &who); err != nil || who.OrgID == "" || who.OrgName == "" {
		t.Errorf("whoami --json says %q", out)
	}
	c.must(t, "logout")
	code, out := c.run(t, "whoami", "--json")
	if strings.Contains(out, who.OrgID) {
		t.Errorf("after logout whoami ends with %d and says %q", code, out)
	}

	stdin := newCLI(t, env)
	cmd := stdin.command(t.Context(), "login", c.backend(), "--api-key-stdin", "--write-env")
	cmd.Stdin = strings.NewReader(key + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("login --api-key-stdin: %v\n%s", err, out)
	}
	dotenv, err := os.ReadFile(filepath.Join(stdin.dir, ".env"))
	if err != nil || !bytes.Contains(dotenv, []byte(key)) || !bytes.Contains(dotenv, []byte(c.backend())) {
		t.Errorf("login --write-env left %v %q", err, dotenv)
	}
}

// TestCLILoginByBrowser plays the browser: the tool opens one with the address of the authorization page.
func TestCLILoginByBrowser(t *testing.T) {
	t.Parallel()
	env, key, _ := cliNetwork(t)
	c := newCLI(t, env)
	c.project(t, "by_browser")
	// What opens a browser on Linux hands the address to us instead.
	tools := filepath.Join(c.home, "bin")
	opened := filepath.Join(c.home, "opened")
	c.ok(t, os.Mkdir(tools, 0o755))
	script := "#!/bin/sh\nprintf '%s' \"$1\" > '" + opened + ".part' && mv '" + opened + ".part' '" + opened + "'\n"
	for _, name := range []string{"xdg-open", "x-www-browser", "www-browser"} {
		c.ok(t, os.WriteFile(filepath.Join(tools, name), []byte(script), 0o755))
	}
	c.env = c.env.With("PATH", tools+":"+os.Getenv("PATH"))

	p := start(t, "blocks login", c.command(context.Background(), "login", c.backend(), "--no-write-env"), func(string) bool { return false })
	system.Eventually(t, system.StartDeadline, "the tool opens a browser", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("blocks login ended with %s:\n%s", p.cmd.ProcessState, p.log())
		default:
		}
		_, err := os.Stat(opened)
		return err == nil
	})
	address, err := os.ReadFile(opened)
	c.ok(t, err)
	page, err := url.Parse(string(address))
	if err != nil || page.Query().Get("code_challenge_method") != "S256" || !strings.HasPrefix(page.String(), c.backend()) {
		t.Fatalf("it opens %s", address)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: cliDeadline}).Get(page.String())
	if err != nil {
		t.Fatalf("visit the page: %v\n%s", err, p.log())
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the way from the page back to the tool ends with %d: %s", resp.StatusCode, body)
	}
	select {
	case <-p.exited:
	case <-time.After(cliDeadline):
		t.Fatalf("the login did not end:\n%s", p.log())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("blocks login ended with %d:\n%s", code, p.log())
	}
	// The key that it got works.
	c.must(t, "register", "--no-input")
	if got := listed(c.agent(t, key, "by_browser")); got != "private free" {
		t.Errorf("registered as %s", got)
	}
}

// TestCLIRegistry: register, publish free and paid, what is refused, and unregister.
func TestCLIRegistry(t *testing.T) {
	t.Parallel()
	env, key, other := cliNetwork(t)
	c := newCLI(t, env)
	c.login(t, key)
	stranger := newCLI(t, env)
	stranger.login(t, other)
	stranger.project(t, "made_here")
	c.project(t, "made_here")

	for _, s := range []struct {
		name    string
		by      *cli
		args    []string
		refused bool
		want    string
	}{
		{"register", c, []string{"register"}, false, "private free"},
		{"publish free", c, []string{"publish", "--listing", "public", "--billing-mode", "free"}, false, "public free"},
		{"a name of others", stranger, []string{"register"}, true, "public free"},
		{"register again makes it private", c, []string{"register"}, false, "private free"},
		{"publish without terms", c, []string{"publish", "--listing", "public", "--billing-mode", "paid", "--price-per-task", "0.05"}, true, "private free"},
		{"publish above the highest price", c, []string{"publish", "--listing", "public", "--billing-mode", "paid", "--price-per-task", "1000", "--accept-terms"}, true, "private free"},
		{"publish paid", c, []string{"publish", "--listing", "public", "--billing-mode", "paid", "--price-per-task", "0.05", "--accept-terms"}, false, "public paid 0.050000"},
		{"paid becomes free only by deletion", c, []string{"publish", "--listing", "public", "--billing-mode", "free"}, true, "public paid 0.050000"},
		{"unregister of others", stranger, []string{"unregister", "made_here", "--yes"}, true, "public paid 0.050000"},
		{"unregister", c, []string{"unregister", "made_here", "--yes"}, false, "not there"},
		{"unregister again", c, []string{"unregister", "made_here", "--yes"}, true, "not there"},
		{"the name is free", stranger, []string{"register"}, false, "not there"}, // private: not for the first organization
	} {
		t.Run(s.name, func(t *testing.T) {
			args := append(slices.Clone(s.args), "--no-input")
			if s.refused {
				s.by.fails(t, args...)
			} else {
				s.by.must(t, args...)
			}
			if got := listed(s.by.agent(t, key, "made_here")); got != s.want {
				t.Errorf("the registry lists it as %q, not %q", got, s.want)
			}
		})
	}
	if got := listed(c.agent(t, other, "made_here")); got != "private free" {
		t.Errorf("the new owner sees %q", got)
	}
}

// TestCLIInvitations: a private agent is for those who were invited and have accepted, until the grant is revoked.
func TestCLIInvitations(t *testing.T) {
	t.Parallel()
	env, key, other := cliNetwork(t)
	owner, guest := newCLI(t, env), newCLI(t, env)
	owner.login(t, key)
	guest.login(t, other)
	var who struct {
		OrgID   string `json:"org_id"`
		OrgName string `json:"org_name"`
	}
	owner.ok(t, json.Unmarshal([]byte(guest.must(t, "whoami", "--json")), &who))
	slug := strings.ToLower(who.OrgName)

	sees := func(want string) {
		t.Helper()
		if got := listed(guest.agent(t, other, "private_one")); got != want {
			t.Errorf("the guest sees %q, not %q", got, want)
		}
	}
	sees("not there")
	owner.fails(t, "invite", "send", "no_such", "--org", slug)
	guest.fails(t, "invite", "send", "private_one", "--org", slug)
	out := owner.must(t, "invite", "send", "private_one", "--org", slug)
	token := regexp.MustCompile(`/invite/([A-Za-z0-9_-]+)`).FindStringSubmatch(out)
	if token == nil {
		t.Fatalf("invite send prints no link: %s", out)
	}
	owner.must(t, "invite", "send", "private_one", "--email", "guest@example.com")
	if out := owner.must(t, "invite", "list", "private_one"); !strings.Contains(out, "guest@example.com") {
		t.Errorf("invite list prints %s", out)
	}
	sees("not there")
	guest.fails(t, "invite", "accept", "wrong")
	guest.must(t, "invite", "accept", token[1])
	sees("private free")
	if out := owner.must(t, "invite", "grants", "private_one"); !strings.Contains(out, who.OrgName) && !strings.Contains(out, slug) {
		t.Errorf("invite grants prints %s", out)
	}
	owner.must(t, "invite", "revoke", "private_one", "--org", slug)
	sees("not there")
}

// TestCLICheck: our reference cards are cards for the official tool.
func TestCLICheck(t *testing.T) {
	t.Parallel()
	env, _, _ := cliNetwork(t)
	c := newCLI(t, env)
	cards, err := filepath.Glob("../../../handlers/*/agent-card.json")
	c.ok(t, err)
	internal, err := filepath.Glob("../../../handlers/internal/*/agent-card.json")
	c.ok(t, err)
	if len(cards) < 2 {
		t.Fatalf("found only %q", cards)
	}
	for _, path := range append(append(cards, "../../../agent-card.json"), internal...) {
		t.Run(path, func(t *testing.T) {
			abs, err := filepath.Abs(path)
			c.ok(t, err)
			c.must(t, "check", abs)
		})
	}
	bad := filepath.Join(c.home, "agent-card.json")
	c.ok(t, os.WriteFile(bad, []byte(`{"identity": {}}`), 0o644))
	c.fails(t, "check", bad)
}

// TestCLIRun: a scaffolded Python agent, from nothing to a finished task.
func TestCLIRun(t *testing.T) {
	t.Parallel()
	env, key, _ := cliNetwork(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			agent := "made_with_" + strings.ReplaceAll(version, ".", "_")
			c := newCLI(t, env)
			c.login(t, key)
			c.must(t, "init", agent, "--yes", "--language", "python", "--mode", "provider")
			c.dir = filepath.Join(c.home, agent)
			c.must(t, "check")
			c.must(t, "register", "--no-input")
			// The project's own environment is where its author installs the SDK.
			c.ok(t, os.MkdirAll(filepath.Join(c.dir, ".venv/bin"), 0o755))
			python := "#!/bin/sh\nexec '" + cached(t, "blocks-"+version+"/bin/python") + "' \"$@\"\n"
			c.ok(t, os.WriteFile(filepath.Join(c.dir, ".venv/bin/python"), []byte(python), 0o755))
			for _, kv := range []string{"PUBNUB_REQUEST_HANDLER=loopback.LoopbackHandler", "PYTHONPATH=" + here(t), "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"} {
				k, v, _ := strings.Cut(kv, "=")
				c.env = c.env.With(k, v)
			}
			c.env = c.env.With("BLOCKSD_PUBNUB_ORIGIN", env.Get("BLOCKSD_PUBNUB_ORIGIN"))

			started := make(chan string, 1)
			p := start(t, "blocks run", c.command(context.Background(), "run"), func(line string) bool {
				if strings.Contains(line, "agent_instance_started") {
					select {
					case started <- line:
					default:
					}
				}
				return false
			})
			p.await(t, started)

			consumer := consume(t, version, env)
			var said []string
			err := consumer.do("task", args{"agent": agent, "parts": []args{{"id": "request", "text": "hello, scaffold"}}}, &said)
			if err != nil {
				t.Fatal(err)
			}
			said = slices.DeleteFunc(said, func(s string) bool { return strings.HasPrefix(s, "status") })
			want := []string{"request", "running 0", "artifact inline text/plain 15", "terminal completed", "state completed", "got text/plain -: hello, scaffold"}
			if d := cmp.Diff(want, said); d != "" {
				t.Errorf("the consumer sees (-want +got):\n%s", d)
			}

			// The scaffold brings a consumer of its own.
			done := make(chan string, 16)
			cmd := exec.Command(filepath.Join(c.dir, ".venv/bin/python"), "trigger.py")
			cmd.Dir, cmd.Env = c.dir, c.env.With("BLOCKS_API_KEY", key)
			trigger := start(t, "trigger.py", cmd, func(line string) bool {
				if strings.HasPrefix(line, "[artifact]") {
					done <- line
				}
				return false
			})
			trigger.await(t, done)
			// Threads of the PubNub library may keep it.
			trigger.kill()

			p.endWith(syscall.SIGTERM, system.StopDeadline)
			if code := p.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("blocks run ended with %d after SIGTERM", code)
			}
		})
	}
}
