package pubnub

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil"
)

// patience bounds what must come, also on a machine where other packages' tests take both cores.
const patience = 60 * time.Second

// sdks are the clients that nobody here wrote, by name.
var sdks = []string{"go", "javascript", "python"}

// python is the interpreter with the PyPI package pubnub.
const python = "../.cache/pubnub-10.8.0/bin/python"

// driverCommand returns the process that drives an SDK, or skips.
func driverCommand(t *testing.T, sdk string) *exec.Cmd {
	t.Helper()
	switch sdk {
	case "go":
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(system.CleanEnv(), driverVariable+"=1")
		return cmd
	case "javascript":
		node, err := exec.LookPath("node")
		if err != nil {
			t.Skip("node is not installed")
		}
		if _, err := os.Stat("node_modules/pubnub"); err != nil {
			t.Skip("the npm package pubnub is not installed: run make test")
		}
		cmd := exec.Command(node, "sdk.mjs")
		cmd.Env = system.CleanEnv()
		return cmd
	default:
		if _, err := os.Stat(python); err != nil {
			t.Skip("the PyPI package pubnub is not installed: run make test")
		}
		cmd := exec.Command(python, "drive.py")
		cmd.Env = system.CleanEnv()
		return cmd
	}
}

// client is one SDK in a process of its own.
type client struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan event
	gone   chan struct{} // closed when the process has ended and all that it said is read
	end    func()        // lets events go from now on: nobody takes them any more
	unread chan struct{} // closed by end

	mu      sync.Mutex // guards all below
	last    int
	waiting map[int]chan answer
	ended   bool
}

// event is what a listener of an SDK was told.
type event struct {
	Event, Category                     string
	Number                              int
	Channel, Subscription, Publisher    string
	Timetoken                           string
	Message, Meta, State                any
	Action, UUID, Type, Value, ID, Name string
	Occupancy                           int
}

type answer struct {
	OK     bool
	Value  json.RawMessage
	Status int
	Error  string
}

// start runs a driver until the end of the test.
func start(t *testing.T, sdk string, cfg configuration) *client {
	t.Helper()
	cmd := driverCommand(t, sdk)
	complaints := &testutil.Buffer{} // what the driver says on standard error
	cmd.Stderr = complaints
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, name: sdk, cmd: cmd, stdin: stdin, events: make(chan event, 2000), waiting: map[int]chan answer{}, gone: make(chan struct{}), unread: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.unread) })
	go func() {
		defer close(c.gone)
		c.read(stdout)
	}()
	t.Cleanup(func() {
		c.end()
		stdin.Close()
		// A driver whose SDK hangs at the end is not waited for.
		kill := time.AfterFunc(2*time.Second, func() { _ = cmd.Process.Kill() })
		<-c.gone
		_ = cmd.Wait()
		kill.Stop()
		if text := complaints.String(); t.Failed() && text != "" {
			t.Logf("%s %s said:\n%s", sdk, cfg.UUID, text)
		}
	})
	if err := json.NewEncoder(stdin).Encode(object{
		"publishKey": cfg.PublishKey, "subscribeKey": cfg.SubscribeKey, "secretKey": cfg.SecretKey, "uuid": cfg.UUID,
		"origin": cfg.Origin, "filter": cfg.Filter, "heartbeat": cfg.Heartbeat, "beats": cfg.Beats, "timeout": cfg.Timeout,
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var head struct {
			ID    int
			Event string
		}
		raw := append([]byte(nil), lines.Bytes()...)
		if json.Unmarshal(raw, &struct {
			Event *string
		}{&head.Event}) != nil {
			continue
		}
		if head.Event != "" {
			var e event
			if err := json.Unmarshal(raw, &e); err != nil {
				continue
			}
			select {
			case c.events <- e:
			case <-c.unread:
			}
			continue
		}
		var a answer
		if json.Unmarshal(raw, &struct {
			ID *int
		}{&head.ID}) != nil || json.Unmarshal(raw, &a) != nil {
			continue
		}
		c.mu.Lock()
		if w := c.waiting[head.ID]; w != nil {
			delete(c.waiting, head.ID)
			w <- a
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for id, w := range c.waiting {
		delete(c.waiting, id)
		w <- answer{Error: "the driver ended"}
	}
}

// kill ends the process at once, so that its SDK cannot say goodbye.
func (c *client) kill() {
	c.end()
	_ = c.cmd.Process.Kill()
	<-c.gone
}

// send gives a command; the answer comes on the channel.
func (c *client) send(cmd command) <-chan answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	cmd.ID = c.last
	w := make(chan answer, 1)
	if c.ended {
		w <- answer{Error: "the driver ended"}
		return w
	}
	c.waiting[cmd.ID] = w
	raw, err := json.Marshal(cmd)
	if err == nil {
		_, err = c.stdin.Write(append(raw, '\n'))
	}
	if err != nil {
		delete(c.waiting, cmd.ID)
		w <- answer{Error: err.Error()}
	}
	return w
}

// try gives a command and waits for its answer.
func (c *client) try(cmd command) answer {
	c.t.Helper()
	select {
	case a := <-c.send(cmd):
		return a
	case <-time.After(patience):
		c.t.Fatalf("%s: no answer to %s within %s", c.name, cmd.Op, patience)
		return answer{}
	}
}

// do is try for what must work; out is filled with the value.
func (c *client) do(cmd command, out any) {
	c.t.Helper()
	a := c.try(cmd)
	if !a.OK {
		c.t.Fatalf("%s: %s %+v: %d %s", c.name, cmd.Op, cmd, a.Status, a.Error)
	}
	if out != nil {
		if err := json.Unmarshal(a.Value, out); err != nil {
			c.t.Fatalf("%s: %s answered %s: %v", c.name, cmd.Op, a.Value, err)
		}
	}
}

// timetoken is do for what answers with a timetoken.
func (c *client) timetoken(cmd command) string {
	c.t.Helper()
	var v struct{ Timetoken string }
	c.do(cmd, &v)
	return v.Timetoken
}

// next waits for an event of a kind; others are passed over.
func (c *client) next(kind string) event {
	c.t.Helper()
	return c.until(kind, func(event) bool { return true })
}

// until waits for an event of a kind that is right.
func (c *client) until(kind string, right func(event) bool) event {
	c.t.Helper()
	limit := time.After(patience)
	var seen []string
	for {
		select {
		case e := <-c.events:
			if e.Event == kind && right(e) {
				return e
			}
			seen = append(seen, fmt.Sprintf("%+v", e))
		case <-limit:
			c.t.Fatalf("%s: no %s event within %s; saw %s", c.name, kind, patience, strings.Join(seen, "\n"))
			return event{}
		}
	}
}

// subscribe subscribes and waits until the subscription stands.
func (c *client) subscribe(cmd command) {
	c.t.Helper()
	cmd.Op = "subscribe"
	c.do(cmd, nil)
	c.until("status", func(e event) bool {
		return strings.Contains(e.Category, "Connected") || strings.Contains(e.Category, "Changed")
	})
}

// denied tells whether a status says that an SDK has given up because it may not read.
func denied(sdk string) func(event) bool {
	category := map[string]string{"go": "Access Denied", "javascript": "PNDisconnectedUnexpectedlyCategory", "python": "PNAccessDeniedCategory"}[sdk]
	return func(e event) bool { return e.Category == category }
}

// keys are the two plain keysets of a sandbox, and its administrator's token.
type keys struct{ origin, openPublish, openSubscribe, pamPublish, pamSubscribe, pamSecret, admin string }

// network starts the real program.
func network(t *testing.T) keys {
	t.Helper()
	p, env := bin.Sandbox(t, t.TempDir())
	t.Cleanup(func() { p.Stop(t) })
	return keysOf(env)
}

func keysOf(env system.Env) keys {
	open := strings.Split(env.Get("BLOCKSD_SANDBOX_OPEN_KEYS"), ":")
	pam := strings.Split(env.Get("BLOCKSD_SANDBOX_PAM_KEYS"), ":")
	return keys{env.Get("BLOCKSD_PUBNUB_ORIGIN"), open[0], open[1], pam[0], pam[1], pam[2], env.Get("BLOCKSD_SANDBOX_TOKEN")}
}

// ask asks the administrator's side of the sandbox.
func (k keys) ask(t *testing.T, method, path, body string) []byte {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+k.origin+"/_sandbox/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+k.admin)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s of the sandbox: %d %s %v", method, path, res.StatusCode, text, err)
	}
	return text
}

func (k keys) open(uuid string) configuration {
	return configuration{PublishKey: k.openPublish, SubscribeKey: k.openSubscribe, UUID: uuid, Origin: k.origin}
}

func (k keys) pam(uuid string) configuration {
	return configuration{PublishKey: k.pamPublish, SubscribeKey: k.pamSubscribe, UUID: uuid, Origin: k.origin}
}

func (k keys) signing(uuid string) configuration {
	c := k.pam(uuid)
	c.SecretKey = k.pamSecret
	return c
}
