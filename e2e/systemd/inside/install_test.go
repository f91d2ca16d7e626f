package inside_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

const (
	project  = "/media/project"
	handlers = "/usr/lib/blocksd/plugins"
	// settings are in a file of their own: blocksd.yaml belongs to the package, and need not exist.
	settings = "/etc/blocksd/conf.d/test.yaml"
	// moreTime gives the daemon more time to start and to answer the watchdog, because the processor is emulated, and the one around
	// the machine may be busy: one that gets a hundredth of it for half a minute is dead for the watchdog of the unit.
	moreTime     = "/etc/systemd/system/blocksd.service.d/test.conf"
	timeToStart  = "[Service]\nTimeoutStartSec=5min\n"
	timeToAnswer = "WatchdogSec=10min\n"
	// networkEnv is what a client of the network needs.
	networkEnv = "/run/network/env"
	// networkState is where the network keeps its tasks.
	networkState = "/var/lib/network/network.json"
)

// networkUnit is a Blocks Network on loopback. It has a program of its own, which no upgrade replaces.
// When the machine is restarted the network outlives the daemon, as one elsewhere would.
const networkUnit = `[Unit]
Description=a Blocks Network
Before=blocksd.service
[Service]
RuntimeDirectory=network
StateDirectory=network
ExecStart=/opt/network/blocksd sandbox --listen 127.0.0.1:3001 --agents /opt/network --env-file ` + networkEnv + ` --state-dir /var/lib/network
[Install]
WantedBy=multi-user.target
`

// network is the network, as its clients know it; set by startNetwork.
var network system.Env

// booted: everything that Debian starts is up.
func booted(t *testing.T) {
	// Running waits for the end of the boot; degraded means that a unit of Debian's has failed, whose names are worth seeing.
	if r := run(t, "systemctl", "is-system-running", "--wait"); strings.TrimSpace(r.out) != "running" {
		t.Errorf("the system is %s: %s", strings.TrimSpace(r.out), run(t, "systemctl", "--failed", "--no-legend", "--plain").out)
	}
	t.Logf("%s, Linux %s", strings.SplitN(ok(t, "systemctl", "--version"), "\n", 2)[0], ok(t, "uname", "-r"))
}

// startNetwork puts a Blocks Network into a unit of its own, with all agents of the project registered.
func startNetwork(t *testing.T) {
	ok(t, "mkdir", "-p", "/opt/network")
	ok(t, "cp", project+"/bin/blocksd", "/opt/network/blocksd")
	ok(t, "sh", "-c", "cp "+project+"/bin/*plugins/*.agent-card.json /opt/network/")
	write(t, "/etc/systemd/system/network.service", networkUnit)
	ok(t, "systemctl", "daemon-reload")
	ok(t, "systemctl", "enable", "--now", "network")
	findNetwork(t)
}

// findNetwork waits for the network.
func findNetwork(t *testing.T) {
	t.Helper()
	eventually(t, "the network is there", func() bool {
		_, err := os.Stat(networkEnv)
		return err == nil
	})
	b, err := os.ReadFile(networkEnv)
	if err != nil {
		t.Fatal(err)
	}
	network = strings.Fields(string(b))
}

// consumer sends tasks by plain HTTP.
func consumer(t *testing.T) (context.Context, *system.Consumer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	c, err := system.NewConsumer(ctx, network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return ctx, c
}

// manual returns the lines of the blocks of commands below a heading of docs/operations.md.
func manual(t *testing.T, heading string) [][]string {
	t.Helper()
	b, err := os.ReadFile(project + "/docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(b), "\n"+heading+"\n")
	if !found {
		t.Fatalf("docs/operations.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks [][]string
	for _, m := range regexp.MustCompile("(?s)```\n(.*?)\n```").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, strings.Split(m[1], "\n"))
	}
	if len(blocks) == 0 {
		t.Fatalf("docs/operations.md has no commands below %q", heading)
	}
	return blocks
}

// follow runs lines of the manual as an operator would, who pastes the API key where it is asked for, and brings handlers
// and settings before the service starts.
func follow(t *testing.T, lines []string) {
	t.Helper()
	started := false
	for _, line := range lines {
		c := command{name: "sh", args: []string{"-c", line}, dir: project}
		if strings.Contains(line, "/dev/stdin") {
			c.stdin = network.Get("BLOCKS_API_KEY") + "\n"
		}
		if strings.HasPrefix(line, "systemctl enable --now") {
			started = true
			bringHandlers(t)
		}
		out := c.ok(t)
		t.Logf("$ %s\n%s", line, out)
	}
	if !started {
		t.Fatalf("no line of the manual starts the service: %q", lines)
	}
}

// bringHandlers does what README says: programs into the directory, cards beside them.
func bringHandlers(t *testing.T) {
	t.Helper()
	for _, name := range []string{"plugins/echo", "plugins/adder", "testplugins/sleeper", "testplugins/hostile"} {
		ok(t, "install", "-m", "0755", filepath.Join(project, "bin", name), handlers)
		ok(t, "install", "-m", "0644", filepath.Join(project, "bin", name+".agent-card.json"), handlers)
	}
	ok(t, "mkdir", "-p", filepath.Dir(settings), filepath.Dir(moreTime))
	write(t, moreTime, timeToStart+timeToAnswer)
	ok(t, "systemctl", "daemon-reload")
	write(t, settings, configuration(""))
}

// configuration is what a machine without the public network says, with time for handlers on an emulated processor, every kind
// of limit, and further lines.
func configuration(further string) string {
	return `network:
  cdm_url: ` + network.Get("BLOCKS_CDM_URL") + `
  pubnub_origin: ` + network.Get("BLOCKSD_PUBNUB_ORIGIN") + `
timeouts: {handler_handshake: 2m, handler_describe: 2m, handler_health: 30s}
handlers:
  - {name: echo, files: 1024}
  - {name: hostile, memory_mib: 96, processes: 60, cpu_percent: 150}
  - {name: sleeper, read_paths: [/srv], write_paths: [/var/tmp]}
` + further
}

// installPackage follows the manual's lines for a package.
func installPackage(t *testing.T) {
	blocks := manual(t, "## As a service")
	if len(blocks) < 2 || !strings.HasPrefix(blocks[1][0], "dpkg -i ") {
		t.Fatalf("the manual's second block does not install a package: %q", blocks)
	}
	follow(t, blocks[1])
}

// installByHand follows the manual's own lines.
func installByHand(t *testing.T) {
	follow(t, manual(t, "## As a service")[0])
	if mode := ok(t, "stat", "-c", "%a %U", "/etc/blocksd/api-key"); mode != "600 root" {
		t.Errorf("the key file is %s", mode)
	}
}
