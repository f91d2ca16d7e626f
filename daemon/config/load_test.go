package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/network/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the sample file")

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blocksd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSampleFileIsTheDefaults(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "blocksd.example.yaml")
	if *update {
		if err := os.WriteFile(path, []byte(sampleFile()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleFile(), string(b)); d != "" {
		t.Errorf("%s is out of date, run the test with -update: %s", path, d)
	}
	got, warnings, err := Load(Sources{File: path})
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if d := cmp.Diff(Default(), got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("the sample file is not the defaults: %s", d)
	}
	all := paths()
	leaves("", keys, func(_ string, k key) { all = append(all, names(k.keys)...) })
	for _, p := range all {
		name := p[strings.LastIndexByte(p, '.')+1:]
		if !strings.Contains(string(b), name+":") {
			t.Errorf("the sample file lacks %s", p)
		}
	}
}

// Tags hold literal numbers; these two belong to the network.
func TestLimitsAreThoseOfTheNetwork(t *testing.T) {
	k, _ := lookup(keys, "limits.artifact_bytes")
	if k.def != wire.MaxArtifactBytes || k.max != wire.MaxArtifactBytes {
		t.Errorf("limits.artifact_bytes has the default %v and the maximum %d, want %d", k.def, k.max, wire.MaxArtifactBytes)
	}
	if k, _ := lookup(keys, "limits.inline_bytes"); k.def != wire.DefaultInlineLimit {
		t.Errorf("limits.inline_bytes has the default %v, want %d", k.def, wire.DefaultInlineLimit)
	}
}

// A key without a class or a text would make the sample file incomplete.
func TestEveryKeyIsDocumented(t *testing.T) {
	leaves("", keys, func(path string, k key) {
		if k.name == "" || k.doc == "" || !slices.Contains([]string{"live", "handler", "daemon"}, k.reload) {
			t.Errorf("key %q: its tags name no reload class, or no text", path)
		}
		for _, sub := range k.keys {
			if sub.name == "" || sub.doc == "" {
				t.Errorf("key %q of the entries of %s has no text", sub.name, path)
			}
		}
	})
}

// A limit of isolation may be 0 for none; in an entry under handlers, 0 would be the same as leaving it out.
func TestEntriesInheritLimits(t *testing.T) {
	path := write(t, "isolation: {memory_mib: 0, files: 64, mtls: true, strict: true}\nhandlers: [{name: a, files: 32, instances: 2, strict: false}, {name: b, mtls: false}]")
	c, _, err := Load(Sources{File: path})
	if err != nil {
		t.Fatal(err)
	}
	want := []Handler{{Name: "a", Instances: 2, ProcessLimits: ProcessLimits{Files: 32, Level: "auto", MTLS: true}}, {Name: "b", Instances: 1, ProcessLimits: ProcessLimits{Files: 64, Level: "auto", Strict: true}}}
	if d := cmp.Diff(want, c.Handlers, cmpopts.EquateEmpty()); d != "" || c.Isolation.Files != 64 {
		t.Errorf("%s, %+v", d, c.Isolation)
	}
	c, _, err = Load(Sources{File: path, Environ: []string{"BLOCKSD_ISOLATION__FILES=99"}})
	if err != nil || c.Handlers[0].Files != 32 || c.Handlers[1].Files != 99 {
		t.Errorf("with a variable above the file: %+v, %v", c.Handlers, err)
	}
	_, _, err = Load(Sources{File: write(t, "handlers: [{name: a, memory_mib: 0}]")})
	if err == nil || !strings.Contains(err.Error(), `key "handlers[0].memory_mib" must be from 1 to 16777216, not 0`) {
		t.Error(err)
	}
}

// A path in a file is relative to the file; one in a variable or flag, to the working directory.
func TestPathsBecomeAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(Sources{
		File:    write(t, "state_dir: s\nnetwork: {api_key_file: k}\nhandlers: [{name: a, path: bin/a, dir: /d/}]"),
		Environ: []string{"BLOCKSD_NETWORK__API_KEY_FILE=k", "BLOCKSD_SOCKET=ignored"},
		Flags:   map[string]any{"plugins.dirs": []string{"p/"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Network.APIKeyFile, c.Plugins.Dirs[0], filepath.Base(c.StateDir), c.Handlers[0].Dir}
	want := []string{filepath.Join(here, "k"), filepath.Join(here, "p"), "s", "/d"}
	if d := cmp.Diff(want, got); d != "" || !strings.HasSuffix(c.Handlers[0].Path, "/bin/a") || !filepath.IsAbs(c.StateDir) {
		t.Errorf("%s: %+v", d, c)
	}
}

// Every command reads the defaults, also in a directory that was removed.
func TestDefaultsWithoutWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if c := Default(); c.StateDir != "/var/lib/blocksd" {
		t.Errorf("%+v", c)
	}
}

func TestDefaultsAreSafe(t *testing.T) {
	c := Default()
	if c.Drain != 30*time.Second || c.CancelGrace != 5*time.Second || !c.Plugins.Autoload || c.Socket != "/run/blocksd/blocksd.sock" {
		t.Errorf("%+v", c)
	}
}

func TestLayers(t *testing.T) {
	path := write(t, `
drain: 1m
log:
  level: warn
network:
  cdm_url: http://file/
plugins:
  dirs: [plugins, /abs]
agents:
  - card: cards/a.json
    concurrency: 3
handlers:
  - name: echo
    args: [-v]
limits:
`)
	c, warnings, err := Load(Sources{
		File: path,
		Environ: []string{
			"LOG_LEVEL=WARNING", "BLOCKSD_LOG__LEVEL=debug", "BLOCKS_CDM_URL=http://env/", "BLOCKSD_CANCEL_GRACE=7s", "BLOCKSD_DRAIN=2m",
			"BLOCKSD_PUBNUB_ORIGIN=127.0.0.1:3001", "BLOCKSD_SOCKET=/for/clients", "BLOCKSD_SANDBOX_TOKEN=t", "BLOCKSD_HOST_SOCKET=h", "BLOCKS_API_KEY=k",
			"ARTIFACT_INLINE_LIMIT_BYTES=100", "BLOCKSD_ENVIRONMENT=A,B", "PATH=/bin",
		},
		Flags: map[string]any{"drain": "3m", "state_dir": "/s"},
	})
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	dir := filepath.Dir(path)
	want := Default()
	want.StateDir, want.Drain, want.CancelGrace, want.Environment = "/s", 3*time.Minute, 7*time.Second, []string{"A", "B"}
	want.Log.Level, want.Network.CDMURL, want.Network.PubNubOrigin, want.Limits.InlineBytes = "debug", "http://env/", "127.0.0.1:3001", 100
	want.Plugins.Dirs = []string{filepath.Join(dir, "plugins"), "/abs"}
	want.Agents = []Agent{{Card: filepath.Join(dir, "cards/a.json"), Concurrency: 3}}
	want.Handlers = []Handler{{Name: "echo", Args: []string{"-v"}, Instances: 1, ProcessLimits: want.Isolation.ProcessLimits}}
	if d := cmp.Diff(want, c, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}

func TestUnknownVariablesOnlyWarn(t *testing.T) {
	_, warnings, err := Load(Sources{Environ: []string{"BLOCKSD_DRIAN=3s", "BLOCKSD_ZZZZZZZZZZ=1", "LOG_LEVEL=loud", "BLOCKSD_LOG=x"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`variable LOG_LEVEL is ignored: it must be debug, info, warn or error, not "loud"`,
		`variable BLOCKSD_DRIAN is ignored: no key has this name, did you mean "BLOCKSD_DRAIN"?`,
		`variable BLOCKSD_LOG is ignored: no key has this name`,
		`variable BLOCKSD_ZZZZZZZZZZ is ignored: no key has this name`,
	}
	if d := cmp.Diff(want, warnings); d != "" {
		t.Error(d)
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"misspelled", "drian: 3s", `, line 1: key "drian" is unknown, did you mean "drain"?`},
		{"misspelled below", "log:\n  levle: info", `, line 2: key "log.levle" is unknown, did you mean "log.level"?`},
		{"wrong level", "level: info", `, line 1: key "level" is unknown, did you mean "log.level"?`},
		{"nothing near", "zzzzzzzz: 1", `, line 1: key "zzzzzzzz" is unknown; the known keys are state_dir, socket, drain, cancel_grace, environment, projects, control, log, telemetry, network, plugins, agents, handlers, isolation, limits, timeouts`},
		{"in a list", "agents:\n- crad: x", `, line 2: key "agents[0].crad" is unknown, did you mean "agents[0].card"?; configuration file F, line 2: agents[0] lacks the required key "card"`},
		{"twice", "drain: 1s\ndrain: 2s", `, line 2: key "drain" is set twice, here and in line 1: keep one`},
		{"no unit", "drain: 30", `, line 1: key "drain" must be a duration with a unit, such as 30s or 1m30s, not "30"`},
		{"negative", "drain: -1s", `, line 1: key "drain" must not be negative, but is -1s`},
		{"zero timeout", "timeouts: {handler_stop: 0s}", `, line 1: key "timeouts.handler_stop" must be more than 0, not 0s`},
		{"not a number", "limits: {tasks: many}", `, line 1: key "limits.tasks" must be a whole number, not "many"`},
		{"out of range", "limits: {inline_bytes: 100000}", `, line 1: key "limits.inline_bytes" must be from 1 to 23552, not 100000`},
		{"not a level", "log: {level: loud}", `, line 1: key "log.level" must be debug, info, warn or error, not "loud"`},
		{"not a truth", "plugins: {autoload: maybe}", `, line 1: key "plugins.autoload" must be true or false, not "maybe"`},
		{"not a list", "plugins: {dirs: {a: 1}}", `, line 1: key "plugins.dirs" must be a list of strings, not map[a:1]`},
		{"not a mapping", "log: info", `, line 1: the value of log must be a mapping of keys`},
		{"top not a mapping", "- a", `, line 1: the value of  must be a mapping of keys`},
		{"not YAML", "a: [", `: the file is not YAML: line 1: did not find expected node content`},
		{"socket too long", "socket: /" + strings.Repeat("s", 120), `, line 1: control socket path /` + strings.Repeat("s", 120) + ` has 121 bytes, but a Unix socket path may have at most 107: choose a shorter one with --socket`},
		{"address", "network: {cdm_url: 'localhost'}", `, line 1: key "network.cdm_url" must be an http or https address, not "localhost"`},
		{"origin", "network: {pubnub_origin: 'http://x:1'}", `, line 1: key "network.pubnub_origin" must be host:port without a scheme, not "http://x:1"`},
		{"names", "handlers: [{name: a}, {name: a}, {name: b/c, sha256: 12}]", `, line 1: key "handlers[2].sha256" must be a string, not 12`},
		{"listener", "telemetry:\n  listen: 0.0.0.0:9464", `, line 2: key "telemetry.listen" must be a loopback address such as 127.0.0.1:9464, or unix:PATH, not "0.0.0.0:9464"`},
		{"two of a name", "handlers:\n- name: a\n- name: a", `, line 3: handlers[1] has the name "a" of an earlier handler: names must be unique`},
		{"checksum", "handlers: [{name: a, sha256: '12'}]", `, line 1: handlers[0].sha256 must be 64 hexadecimal digits, not "12"`},
		{"credential", "environment: [BLOCKS_API_KEY]", `, line 1: environment[0] would pass the credential BLOCKS_API_KEY to handlers, which never need one: remove it`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.file)
			_, _, err := Load(Sources{File: path})
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v", err)
			}
			got := strings.ReplaceAll(err.Error(), path, "F")
			want := strings.TrimSpace("configuration file F" + c.want)
			if c.name == "top not a mapping" {
				want = "configuration file F, line 1: the file must be a mapping of keys"
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestMistakesOutsideTheFile(t *testing.T) {
	for _, c := range []struct {
		s    Sources
		want string
	}{
		{Sources{File: "/no/such/file"}, "read configuration file /no/such/file: there is no such file"},
		{Sources{Environ: []string{"BLOCKSD_DRAIN=soon"}}, `variable BLOCKSD_DRAIN must be a duration with a unit, such as 30s or 1m30s, not "soon"`},
		{Sources{Environ: []string{"BLOCKS_CDM_URL=x"}}, `key "network.cdm_url" must be an http or https address, not "x" (set by the variable BLOCKS_CDM_URL)`},
		{Sources{Flags: map[string]any{"state_dir": ""}}, `key "state_dir" must not be empty`},
		{Sources{Flags: map[string]any{"drain": "x"}}, `flag --drain must be a duration with a unit, such as 30s or 1m30s, not "x"`},
	} {
		if _, _, err := Load(c.s); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(sampleFile()))
	f.Add([]byte("agents: [{card: x}]\nhandlers: &a [{name: x}]\nplugins: *a"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("handlers: [{name: [x]}, 5, {nmae: x}, {name: x, memory_mib: x}, {name: x}]\nagents: 5\nplugins: {dirs: {}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range func() Problems { _, ps := parseFile(b, "/d"); return ps }() {
			if p.Message == "" || strings.Contains(p.Message, "\n") {
				t.Errorf("problem is not one line: %q", p.Message)
			}
		}
		// What is right of a file that is wrong is looked at as well.
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(Sources{File: path}); err != nil && !errors.As(err, new(Problems)) {
			t.Errorf("a file of people has a fault of ours: %v", err)
		}
	})
}

func TestWrongOrigin(t *testing.T) {
	for origin, right := range map[string]bool{"": true, "h": true, "h:80": true, "[::1]:80": true, "http://h": false, "http://h:80": false, "h/x": false, "h:80/x": false, "::1": false, "h x": false} {
		if why := WrongOrigin(origin); right != (why == "") {
			t.Errorf("%q: %q", origin, why)
		}
	}
}

// A grace as long as the network's own is valid, and a reason to think again.
func TestLongCancelGrace(t *testing.T) {
	for grace, want := range map[string]int{"29s": 0, "30s": 1} {
		_, warnings, err := Load(Sources{Flags: map[string]any{"cancel_grace": grace}})
		if err != nil || len(warnings) != want {
			t.Errorf("%s: %q, %v", grace, warnings, err)
		}
	}
}
