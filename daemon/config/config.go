package config

import "time"

// Config is a complete, valid configuration. Its fields are the only list of keys: defaults, checks, variables and the
// annotated sample file all follow from their tags, so a new key is one field here.
//
//	koanf     the name in the file
//	default   the value of a key that no layer sets; of an entry in a list, that of a key that the entry leaves out
//	reload    what a change needs: live, handler (a restart of the handlers concerned) or daemon (a restart of the daemon)
//	doc       the text in the sample file
//	oneof     the allowed values, separated by commas
//	min, max  the bounds of a number, inclusive; without max it is the largest int32. max also bounds a duration
//	positive  "true": a duration must not be 0
//	required  "true": an entry of a list needs it
//	path      "true": a relative path is relative to the file, or to the working directory in a variable or flag
//	env       a second variable that sets it, weaker than BLOCKSD_…: one that the Blocks SDKs read too
//	inherits  of an embedded struct in an entry: the table with the values of the keys that the entry leaves out
type Config struct {
	StateDir string `koanf:"state_dir" default:"/var/lib/blocksd" reload:"daemon" path:"true" doc:"Directory of everything that must survive a restart. Only one daemon can use it; created with mode 0700."`

	Socket string `koanf:"socket" default:"/run/blocksd/blocksd.sock" reload:"daemon" path:"true" doc:"Unix socket of the control API (status, tasks, cancel). At most 107 bytes long; created with mode 0660."`

	Drain time.Duration `koanf:"drain" default:"30s" reload:"live" max:"24h" doc:"How long running tasks may continue after the daemon was asked to stop. Then they are canceled."`

	CancelGrace time.Duration `koanf:"cancel_grace" default:"5s" reload:"live" max:"10m" doc:"How long a handler may take to end a canceled task. Then the daemon ends the call itself."`

	Environment []string `koanf:"environment" reload:"handler" doc:"Names of environment variables that handlers get, besides PATH, HOME, LANG, TZ, TMPDIR and SSL_CERT_*.\nNever pass credentials of the network: handlers need none."`

	Projects []string `koanf:"projects" reload:"live" path:"true" doc:"Directories of projects: each has an agent-card.json whose runtime.handler names a file in it, in Python, JavaScript or\nTypeScript, a program, or a YAML file for blocksd-exec. The rule about owners is that of plugins directories."`

	Control   Control   `koanf:"control" doc:"The control API."`
	Log       Log       `koanf:"log" doc:"Logging, to standard error."`
	Telemetry Telemetry `koanf:"telemetry" doc:"Metrics, health and traces, for monitoring."`
	Network   Network   `koanf:"network" doc:"The Blocks Network."`
	Plugins   Plugins   `koanf:"plugins" doc:"Where to find handler programs."`
	Agents    []Agent   `koanf:"agents" reload:"live" doc:"Agents whose cards are not beside their handlers. A relative path is relative to this file."`
	Handlers  []Handler `koanf:"handlers" reload:"handler" doc:"Handlers that need more than their file in a plugins directory."`
	Isolation Isolation `koanf:"isolation" doc:"What each process of a handler may use. Entries under handlers can override it.\nA limit that this machine cannot enforce is left out; blocksd handlers lists it."`
	Limits    Limits    `koanf:"limits" doc:"Limits of the whole daemon."`
	Timeouts  Timeouts  `koanf:"timeouts" doc:"How long single steps may take."`
}

// Control configures the control API.
type Control struct {
	OperatorGroup string `koanf:"operator_group" reload:"live" doc:"Group of users who may also change things (cancel, restart, drain, reload), as root and the daemon's user may.\nEmpty for none. Who may open the socket is decided by the socket's own group. Under systemd see the operations page."`
}

// Telemetry configures what monitoring gets.
type Telemetry struct {
	Listen      string  `koanf:"listen" reload:"daemon" doc:"Where to serve /metrics (Prometheus), /healthz and /readyz: a loopback address such as 127.0.0.1:9464, or\nunix:PATH. Empty for nowhere. Whoever can connect there can read the names of agents and handlers."`
	Traces      string  `koanf:"traces" reload:"daemon" env:"OTEL_EXPORTER_OTLP_ENDPOINT" doc:"Where to send a trace of each task: the address of an OpenTelemetry collector that takes OTLP/HTTP, such as\nhttp://127.0.0.1:4318. Empty for nowhere. OTEL_EXPORTER_OTLP_ENDPOINT sets it too."`
	TracesRatio float64 `koanf:"traces_ratio" default:"1" reload:"daemon" doc:"Share of the tasks that are traced, from 0 to 1. It decides about tasks whose sender traces nothing; of a task that\nbelongs to a trace its sender has decided."`
}

// Log configures the log.
type Log struct {
	Level  string `koanf:"level" default:"info" reload:"live" oneof:"debug,info,warn,error" env:"LOG_LEVEL" doc:"debug, info, warn or error. LOG_LEVEL sets it too."`
	Format string `koanf:"format" default:"auto" reload:"daemon" oneof:"auto,text,json" doc:"text, json or auto. auto means text on a terminal and for the journal, otherwise json."`
}

// Network locates the Blocks Network and the API key.
type Network struct {
	CDMURL       string `koanf:"cdm_url" reload:"daemon" env:"BLOCKS_CDM_URL" doc:"Address of the deployment document; empty for the public network. BLOCKS_CDM_URL sets it too."`
	BackendURL   string `koanf:"backend_url" reload:"daemon" env:"BLOCKS_BACKEND_URL" doc:"Root of the Blocks API; empty for the one in the deployment document. BLOCKS_BACKEND_URL sets it too."`
	PubNubOrigin string `koanf:"pubnub_origin" reload:"daemon" env:"BLOCKSD_PUBNUB_ORIGIN" doc:"host:port of a PubNub-compatible service without TLS; empty for the one in the deployment document,\nelse PubNub itself. BLOCKSD_PUBNUB_ORIGIN sets it too."`
	APIKeyFile   string `koanf:"api_key_file" reload:"daemon" path:"true" doc:"File that holds the API key. When empty: the variable BLOCKS_API_KEY, else the file blocks-api-key\nin $CREDENTIALS_DIRECTORY (LoadCredential= of systemd). An agent may have its own key file."`
}

// Plugins locates handler programs.
type Plugins struct {
	Dirs             []string `koanf:"dirs" default:"/usr/lib/blocksd/plugins" reload:"live" path:"true" doc:"Directories of handler programs, each with its card beside it as NAME.agent-card.json or inside it.\nRoot or the daemon's user must own them, and nobody else may write to them."`
	Autoload         bool     `koanf:"autoload" default:"true" reload:"live" doc:"false: serve only the handlers that are listed under handlers."`
	RequireChecksums bool     `koanf:"require_checksums" default:"false" reload:"live" doc:"true: start only handlers whose checksum is known, from sha256 under handlers or from\nblocksd handler pin NAME."`
}

// Agent is one agent whose card is not beside its handler.
type Agent struct {
	Card        string `koanf:"card" required:"true" path:"true" doc:"path of the agent card"`
	Handler     string `koanf:"handler" doc:"name of the handler; default: the file name in the card's runtime.handler"`
	KeyFile     string `koanf:"key_file" path:"true" doc:"file with the API key of this agent; default: see network.api_key_file"`
	Concurrency int    `koanf:"concurrency" max:"1048576" doc:"concurrent tasks; default: the card's"`
}

// Handler is one handler program.
type Handler struct {
	Name      string   `koanf:"name" required:"true" doc:"as in blocksd status"`
	Path      string   `koanf:"path" path:"true" doc:"program; default: the file of that name in a plugins directory"`
	Args      []string `koanf:"args" doc:"arguments"`
	Dir       string   `koanf:"dir" path:"true" doc:"working directory"`
	Instances int      `koanf:"instances" default:"1" max:"1024" doc:"concurrent processes; default 1"`
	SHA256    string   `koanf:"sha256" doc:"checksum that the program must have, in hexadecimal"`

	Concurrency        int           `koanf:"concurrency" max:"1048576" doc:"concurrent tasks over all its agents and processes; default: as its cards say"`
	ProcessConcurrency int           `koanf:"process_concurrency" max:"1048576" doc:"concurrent tasks in one process; default: no limit"`
	Idempotent         bool          `koanf:"idempotent" doc:"true: retry a task once on another process if its process crashed and it has published nothing"`
	IdleTimeout        time.Duration `koanf:"idle_timeout" doc:"stop its processes after this time without a task; the next task starts them; default: never"`
	RecycleTasks       int           `koanf:"recycle_tasks" doc:"replace a process after this many tasks; default: never"`
	RecycleAge         time.Duration `koanf:"recycle_age" doc:"replace a process at this age; default: never"`
	MaxRestarts        int           `koanf:"max_restarts" max:"1048576" doc:"restarts within restart_window that put it into quarantine; default 5"`
	RestartWindow      time.Duration `koanf:"restart_window" doc:"default 1m"`
	RestartDelay       time.Duration `koanf:"restart_delay" doc:"longest delay before a restart; it starts at 250ms and doubles; default 30s"`

	ProcessLimits `koanf:",squash" inherits:"isolation"`
	ReadPaths     []string `koanf:"read_paths" doc:"files and directories that it may read; all others are closed to it; default: no guard"`
	WritePaths    []string `koanf:"write_paths" doc:"files and directories that it may also write"`
	User          string   `koanf:"user" doc:"name or number of the user that it runs as; default: the daemon's"`
}

// Isolation is what each process of a handler may use, and where its limits are enforced.
type Isolation struct {
	ProcessLimits `koanf:",squash"`
	Users         string `koanf:"users" default:"60600-61183" reload:"daemon" doc:"Numbers of users and groups that blocksd run gives to handlers, one each, where it runs as root or has a launcher.\nNothing else may use them. Empty: handlers run as root unless they have a user."`
	Launcher      string `koanf:"launcher" default:"/run/blocksd-launcher.sock" reload:"daemon" doc:"Socket of the launcher, which starts handlers as these users where the daemon does not run as root.\nEmpty: there is none."`
	Cgroup        string `koanf:"cgroup" default:"auto" reload:"daemon" doc:"Control group below which each handler gets its own: auto for the daemon's, if systemd delegates it\n(Delegate=), off, or a path below /sys/fs/cgroup that only this daemon uses."`
}

// ProcessLimits are the limits that isolation sets for all handlers and an entry under handlers for one.
type ProcessLimits struct {
	MemoryMiB  int    `koanf:"memory_mib" default:"0" reload:"handler" max:"16777216" doc:"Memory of a process and its children, in MiB, at least 16; 0 for no limit."`
	Processes  int    `koanf:"processes" default:"0" reload:"handler" max:"4194304" doc:"Concurrent processes and threads; 0 for no limit. A program in Go needs about 20."`
	CPUPercent int    `koanf:"cpu_percent" default:"0" reload:"handler" max:"1048576" doc:"CPU time, 100 for one core; 0 for no limit."`
	Files      int    `koanf:"files" default:"8192" reload:"handler" min:"16" max:"1048576" doc:"Open file descriptors."`
	Level      string `koanf:"level" default:"auto" reload:"handler" oneof:"auto,user,namespace,landlock,none" doc:"What keeps handlers from the daemon's files and from each other: auto for the best that this machine can do,\nnamespace, landlock, user (strict then refuses a handler without one) or none."`
	MTLS       bool   `koanf:"mtls" default:"false" reload:"handler" doc:"true: encrypt the connection to the handler, which must support it (AutoMTLS of go-plugin)."`
	Strict     bool   `koanf:"strict" default:"false" reload:"handler" doc:"true: do not start the handler if this machine cannot enforce one of its limits."`
}

// Limits of the whole daemon.
type Limits struct {
	Tasks         int `koanf:"tasks" default:"0" reload:"live" max:"1048576" doc:"Concurrent tasks over all agents; 0 for no limit beyond those of the agents."`
	InlineBytes   int `koanf:"inline_bytes" default:"16384" reload:"live" min:"1" max:"23552" env:"ARTIFACT_INLINE_LIMIT_BYTES" doc:"Artifacts up to this size are sent inside their event, larger ones as files.\nARTIFACT_INLINE_LIMIT_BYTES sets it too."`
	ArtifactBytes int `koanf:"artifact_bytes" default:"1073741824" reload:"handler" min:"1" max:"1073741824" doc:"Largest artifact. A handler that publishes a larger one gets an error. The network's limit is 1 GiB."`
}

// Timeouts of single steps.
type Timeouts struct {
	HandlerHandshake      time.Duration `koanf:"handler_handshake" default:"10s" reload:"handler" positive:"true" doc:"From the start of a handler process to its first line."`
	HandlerDescribe       time.Duration `koanf:"handler_describe" default:"10s" reload:"handler" positive:"true" doc:"Answers of a handler to Describe and to the first health check."`
	HandlerHealth         time.Duration `koanf:"handler_health" default:"2s" reload:"handler" positive:"true" doc:"Answer of a handler to a health check."`
	HandlerHealthInterval time.Duration `koanf:"handler_health_interval" default:"5s" reload:"handler" positive:"true" doc:"Time between health checks."`
	HandlerStop           time.Duration `koanf:"handler_stop" default:"5s" reload:"handler" positive:"true" doc:"From asking a handler process to end to killing it."`
}
