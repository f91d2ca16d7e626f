package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Reload classes: what a change of a key needs.
const (
	live    = "live"    // taken over while everything runs
	handler = "handler" // restarts the handlers concerned
	restart = "daemon"  // needs a restart of the daemon
)

type kind int

const (
	text     kind = iota
	duration      // 30s, 1m30s
	count         // whole number
	truth         // true or false
	texts         // list of texts
	table         // keys below
	tables        // list of objects with the keys below
)

// key is one key of the configuration.
type key struct {
	name   string
	kind   kind
	def    any    // typed default; unused for tables
	reload string // class
	doc    string // lines of the sample file
	keys   []key  // of a table, or of each object of a list

	oneOf    []string      // allowed texts, nil for any
	min      int           // of a count
	max      int           // of a count, 0 for none
	positive bool          // a duration that must not be 0
	atMost   time.Duration // of a duration, 0 for none
	required bool          // in an object of a list
}

// keys is every key there is.
var keys = []key{
	{name: "state_dir", kind: text, def: "/var/lib/blocksd", reload: restart,
		doc: "Directory of everything that must survive a restart. One daemon at a time; created with mode 0700."},
	{name: "socket", kind: text, def: "/run/blocksd/blocksd.sock", reload: restart,
		doc: "Unix socket of the control API (status, tasks, cancel). At most 107 bytes long; created with mode 0660."},
	{name: "drain", kind: duration, def: 30 * time.Second, reload: live, atMost: 24 * time.Hour,
		doc: "How long running tasks may go on after the daemon was asked to stop, before they are canceled."},
	{name: "cancel_grace", kind: duration, def: 5 * time.Second, reload: live, atMost: 10 * time.Minute,
		doc: "How long a handler may take to let go of a canceled task, before the daemon ends the call itself."},
	{name: "environment", kind: texts, def: []string{}, reload: handler,
		doc: "Names of environment variables that handlers get beside PATH, HOME, LANG, TZ, TMPDIR and SSL_CERT_*.\nNever hand on credentials of the network: handlers need none."},
	{name: "log", kind: table, doc: "Logging, to standard error.", keys: []key{
		{name: "level", kind: text, def: "info", reload: live, oneOf: []string{"debug", "info", "warn", "error"}, doc: "debug, info, warn or error. LOG_LEVEL sets it too."},
		{name: "format", kind: text, def: "auto", reload: restart, oneOf: []string{"auto", "text", "json"}, doc: "text, json, or auto: text on a terminal and for the journal, else json."},
	}},
	{name: "network", kind: table, doc: "The Blocks Network.", keys: []key{
		{name: "cdm_url", kind: text, def: "", reload: restart, doc: "Address of the deployment document; empty for the public network. BLOCKS_CDM_URL sets it too."},
		{name: "backend_url", kind: text, def: "", reload: restart, doc: "Root of the Blocks API; empty for what the deployment document says. BLOCKS_BACKEND_URL sets it too."},
		{name: "pubnub_origin", kind: text, def: "", reload: restart, doc: "host:port of a PubNub-compatible service without TLS; empty for what the deployment document says,\nelse PubNub itself. BLOCKSD_PUBNUB_ORIGIN sets it too."},
		{name: "api_key_file", kind: text, def: "", reload: restart, doc: "File that holds the API key. When empty: the variable BLOCKS_API_KEY, else the file blocks-api-key\nin $CREDENTIALS_DIRECTORY (LoadCredential= of systemd). An agent may have a key file of its own."},
	}},
	{name: "plugins", kind: table, doc: "Where handler programs are found.", keys: []key{
		{name: "dirs", kind: texts, def: []string{"/usr/lib/blocksd/plugins"}, reload: live, doc: "Directories of handler programs, each with its card beside it as NAME.agent-card.json or inside it.\nOwner root or the daemon's user, not writable by others."},
		{name: "autoload", kind: truth, def: true, reload: live, doc: "false: serve only the handlers that are listed under handlers."},
		{name: "require_checksums", kind: truth, def: false, reload: live, doc: "true: start only handlers whose checksum is known, by sha256 under handlers or by blocksd handler pin NAME."},
	}},
	{name: "agents", kind: tables, reload: restart, doc: "Agents whose cards are not beside their handlers. A relative path is relative to this file.", keys: []key{
		{name: "card", kind: text, required: true, doc: "path of the agent card"},
		{name: "handler", kind: text, doc: "name of the handler; default: the file name in the card's runtime.handler"},
		{name: "key_file", kind: text, doc: "file with the API key of this agent; default: as network.api_key_file says"},
		{name: "concurrency", kind: count, min: 1, max: 1 << 20, doc: "tasks at once; default: as the card says"},
	}},
	{name: "handlers", kind: tables, reload: handler, doc: "Handlers that need more than their file in a plugins directory.", keys: []key{
		{name: "name", kind: text, required: true, doc: "as in status"},
		{name: "path", kind: text, doc: "program; default: the file of that name in a plugins directory"},
		{name: "args", kind: texts, doc: "arguments"},
		{name: "dir", kind: text, doc: "working directory"},
		{name: "instances", kind: count, min: 1, max: 1024, doc: "processes at once; default 1"},
		{name: "sha256", kind: text, doc: "the program must have this checksum, in hexadecimal"},
		{name: "concurrency", kind: count, min: 1, max: 1 << 20, doc: "tasks at once over all its agents and processes; default: as its cards say"},
		{name: "process_concurrency", kind: count, min: 1, max: 1 << 20, doc: "tasks at once in one process; default: no limit"},
		{name: "idempotent", kind: truth, doc: "true: a task that crashed a process and has published nothing is tried once more on another"},
		{name: "idle_timeout", kind: duration, doc: "stop its processes after so long without a task; the next task starts them; default: never"},
		{name: "recycle_tasks", kind: count, min: 1, doc: "replace a process after so many tasks; default: never"},
		{name: "recycle_age", kind: duration, doc: "replace a process after so long; default: never"},
		{name: "max_restarts", kind: count, min: 1, max: 1 << 20, doc: "restarts within restart_window before it is quarantined; default 5"},
		{name: "restart_window", kind: duration, doc: "default 1m"},
		{name: "restart_delay", kind: duration, doc: "longest delay before a restart, which begins at 250ms and doubles; default 30s"},
		{name: "memory_mib", kind: count, min: 1, max: 1 << 24, doc: "memory of a process and what it starts; default: isolation.memory_mib"},
		{name: "processes", kind: count, min: 1, max: 1 << 22, doc: "processes and threads at once; default: isolation.processes"},
		{name: "cpu_percent", kind: count, min: 1, max: 1 << 20, doc: "processor time, 100 for one core; default: isolation.cpu_percent"},
		{name: "files", kind: count, min: 16, max: 1 << 20, doc: "open descriptors; default: isolation.files"},
		{name: "read_paths", kind: texts, doc: "files and directories that it may read, all others are closed to it; default: no guard"},
		{name: "write_paths", kind: texts, doc: "files and directories that it may also write"},
		{name: "user", kind: text, doc: "name or number of the user that it runs as; default: the daemon's"},
		{name: "mtls", kind: truth, doc: "true: encrypt the connection to it (AutoMTLS of go-plugin)"},
		{name: "strict", kind: truth, doc: "true: do not start it when the machine cannot keep one of these limits"},
	}},
	{name: "isolation", kind: table, doc: "What each process of a handler may use, unless its entry under handlers says otherwise.\nWhat the machine cannot keep is left out, and blocksd handlers says so.", keys: []key{
		{name: "memory_mib", kind: count, def: 0, reload: handler, max: 1 << 24, doc: "Memory of a process and what it starts, in MiB; 0 for no limit."},
		{name: "processes", kind: count, def: 0, reload: handler, max: 1 << 22, doc: "Processes and threads at once; 0 for no limit. A program in Go needs about 20."},
		{name: "cpu_percent", kind: count, def: 0, reload: handler, max: 1 << 20, doc: "Processor time, 100 for one core; 0 for no limit."},
		{name: "files", kind: count, def: 8192, reload: handler, min: 16, max: 1 << 20, doc: "Open descriptors."},
		{name: "mtls", kind: truth, def: false, reload: handler, doc: "true: encrypt the connection to every handler, which all must know then (AutoMTLS of go-plugin)."},
		{name: "strict", kind: truth, def: false, reload: handler, doc: "true: do not start a handler when the machine cannot keep one of its limits."},
		{name: "cgroup", kind: text, def: "auto", reload: restart, doc: "Control group below which handlers get their own: auto for the daemon's, when it is delegated to it\n(Delegate= of systemd), off, or a path below /sys/fs/cgroup that this daemon uses alone."},
	}},
	{name: "limits", kind: table, doc: "Limits of the whole daemon.", keys: []key{
		{name: "tasks", kind: count, def: 0, reload: live, max: 1 << 20, doc: "Tasks at once over all agents; 0 for no limit but those of the agents."},
		{name: "inline_bytes", kind: count, def: 16 << 10, reload: live, min: 1, max: 23 << 10, doc: "Artifacts up to this size travel inside their event, larger ones as files.\nARTIFACT_INLINE_LIMIT_BYTES sets it too."},
		{name: "artifact_bytes", kind: count, def: wire.MaxArtifactBytes, reload: live, min: 1, max: wire.MaxArtifactBytes, doc: "Largest artifact; a handler that gives a larger one is told so. The network's own limit is 1 GiB."},
	}},
	{name: "timeouts", kind: table, doc: "How long single steps may take.", keys: []key{
		{name: "handler_handshake", kind: duration, def: 10 * time.Second, reload: handler, positive: true, doc: "From the start of a handler process to its first line."},
		{name: "handler_describe", kind: duration, def: 10 * time.Second, reload: handler, positive: true, doc: "Answer of a handler to Describe."},
		{name: "handler_health", kind: duration, def: 2 * time.Second, reload: handler, positive: true, doc: "Answer of a handler to a health check."},
		{name: "handler_health_interval", kind: duration, def: 5 * time.Second, reload: handler, positive: true, doc: "Time between health checks."},
		{name: "handler_stop", kind: duration, def: 5 * time.Second, reload: handler, positive: true, doc: "From asking a handler process to end to killing it."},
	}},
}

// lookup finds a key by its dotted path; keys inside lists of objects are not found.
func lookup(ks []key, path string) (key, bool) {
	name, rest, deeper := strings.Cut(path, ".")
	i := slices.IndexFunc(ks, func(k key) bool { return k.name == name })
	switch {
	case i < 0 || deeper && ks[i].kind != table:
		return key{}, false
	case deeper:
		return lookup(ks[i].keys, rest)
	}
	return ks[i], true
}

// paths lists the dotted paths of all keys that hold a value.
func paths(prefix string, ks []key) []string {
	var out []string
	for _, k := range ks {
		if k.kind == table {
			out = append(out, paths(prefix+k.name+".", k.keys)...)
		} else {
			out = append(out, prefix+k.name)
		}
	}
	return out
}

func names(ks []key) []string {
	out := make([]string, len(ks))
	for i, k := range ks {
		out[i] = k.name
	}
	return out
}

func defaults(ks []key) map[string]any {
	m := map[string]any{}
	for _, k := range ks {
		switch k.kind {
		case table:
			m[k.name] = defaults(k.keys)
		case tables:
			m[k.name] = []any{}
		default:
			m[k.name] = k.def
		}
	}
	return m
}

// parse brings a scalar or a list, as text or typed, to the type of the key. why is the end of a sentence that begins
// with the name of the key, empty for success.
func (k key) parse(v any) (typed any, why string) {
	s, isText := v.(string)
	switch k.kind {
	case text:
		if !isText {
			return nil, fmt.Sprintf("must be a text, not %v", v)
		}
		if k.oneOf != nil && !slices.Contains(k.oneOf, s) {
			return nil, fmt.Sprintf("must be %s, not %q", orList(k.oneOf), s)
		}
		return s, ""
	case duration:
		d, ok := v.(time.Duration)
		if !ok {
			var err error
			if d, err = time.ParseDuration(fmt.Sprint(v)); err != nil {
				return nil, fmt.Sprintf("must be a duration with a unit, such as 30s or 1m30s, not %q", fmt.Sprint(v))
			}
		}
		switch {
		case d < 0 || d == 0 && k.positive:
			return nil, fmt.Sprintf("must be longer than nothing, not %s", d)
		case k.atMost != 0 && d > k.atMost:
			return nil, fmt.Sprintf("must be at most %s, not %s", k.atMost, d)
		}
		return d, ""
	case count:
		n, err := strconv.Atoi(fmt.Sprint(v))
		if err != nil {
			return nil, fmt.Sprintf("must be a whole number, not %q", fmt.Sprint(v))
		}
		high := k.max
		if high == 0 {
			high = math.MaxInt32
		}
		if n < k.min || n > high {
			return nil, fmt.Sprintf("must be from %d to %d, not %d", k.min, high, n)
		}
		return n, ""
	case truth:
		b, ok := v.(bool)
		if !ok && s != "true" && s != "false" {
			return nil, fmt.Sprintf("must be true or false, not %q", fmt.Sprint(v))
		}
		return b || s == "true", ""
	case texts:
		switch l := v.(type) {
		case []string:
			return l, ""
		case string: // of a variable: separated by commas
			return slices.DeleteFunc(strings.Split(l, ","), func(s string) bool { return s == "" }), ""
		case []any:
			out := make([]string, 0, len(l))
			for _, e := range l {
				t, ok := e.(string)
				if !ok {
					return nil, fmt.Sprintf("must be a list of texts, but one is %v", e)
				}
				out = append(out, t)
			}
			return out, ""
		}
		return nil, fmt.Sprintf("must be a list of texts, not %v", v)
	}
	return nil, "must be written in the configuration file"
}

func orList(l []string) string {
	return strings.Join(l[:len(l)-1], ", ") + " or " + l[len(l)-1]
}
