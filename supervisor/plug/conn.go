// Package plug is the connection to one handler process, from its start to its end: handshake, description, health, tasks,
// the host service, and the stop ladder. It is the only host-side importer of go-plugin, which it uses for the handshake
// and the connection and for nothing else: every wait here has a deadline of its own.
package plug

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/logpump"
	"github.com/blocksd/blocksd/supervisor/unit"
	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// MaxMessage limits one gRPC message in either direction, in bytes.
const MaxMessage = 16 << 20

// Config of a connection.
type Config struct {
	Handler string // its name, for logs and texts
	Path    string
	Argv0   string // the program's name as it sees it itself; "" is Path
	Args    []string
	Dir     string // working directory, "" is the root directory
	// Environment is what the process sees beside what the protocol needs.
	Environment []string
	Spawner     *launch.Spawner
	Dirs        *launch.SocketDirs
	Log         *slog.Logger
	Book        *logpump.Book // keeps what the process writes; nil keeps nothing but the last lines
	Timeouts    Timeouts
	// Limits of the process, kept as far as Machine can; nil keeps none but the process group.
	Limits  launch.Limits
	Machine *launch.Machine
	// MTLS encrypts the connection with certificates made for it. Without it the kernel's word for who is at the other end
	// is all there is, which is enough on one machine.
	MTLS bool
	// MaxArtifactBytes bounds one artifact; wire.MaxArtifactBytes, the most that the network takes, when zero.
	MaxArtifactBytes int64
	// Elsewhere reports whether a task runs on another process; nil means none does.
	Elsewhere func(taskID string) bool
}

// Description is what a handler says about itself.
type Description struct {
	Name, Version, SDK string
	Cards              [][]byte // agent cards as JSON, unchecked
	// Described is false when the handler does not implement Describe.
	Described bool
	// Cancel: it understands CancelTask. Idempotent: a task that published nothing may be repeated.
	Cancel, Idempotent bool
}

// Conn is one running handler process. Its methods may be used from several goroutines.
type Conn struct {
	config      Config
	timeouts    Timeouts
	dir         string
	plan        *launch.Plan
	mark        string                         // an entry of the environment that no other process has
	process     atomic.Pointer[launch.Process] // set once, by the goroutine that starts it
	pump        *logpump.Pump
	synced      []*logpump.Writer
	plugin      *plugin.Client
	conns       conns
	conn        *grpc.ClientConn
	client      handlerv1.HandlerServiceClient
	health      grpc_health_v1.HealthClient
	host        *host
	description Description
	startedAt   time.Time

	pumps  sync.WaitGroup
	pumped chan struct{} // closed when both pipes have ended
	calls  calls         // that have not ended, given up or not
}

var errHandshakeTimeout = errors.New("no handshake in time")

// Start starts a process and returns when it is ready for tasks. An error is a *Failure, and leaves nothing behind.
func Start(ctx context.Context, c Config) (*Conn, error) {
	if c.MaxArtifactBytes <= 0 {
		c.MaxArtifactBytes = wire.MaxArtifactBytes
	}
	p := &Conn{config: c, timeouts: c.Timeouts.Filled(), pumped: make(chan struct{}), startedAt: time.Now()}
	var err error
	if p.pump, err = logpump.New(logpump.Config{Log: c.Log, Book: c.Book, Handler: c.Handler}); err != nil {
		return nil, failure(unit.Spawn, "handler %s could not be started: %v", c.Handler, err)
	}
	if err := p.start(ctx); err != nil {
		// The last lines are best read once the process is gone.
		p.Kill()
		p.Close()
		var f *Failure
		if !errors.As(err, &f) {
			f = failure(unit.Spawn, "handler %s could not be started: %v", c.Handler, err)
		}
		if p.process.Load() != nil && f.Reason != unit.Requested {
			f.Text = withTail(f.Text, p.pump.Tail(5))
		}
		p.note(f)
		return nil, f
	}
	return p, nil
}

func (p *Conn) start(ctx context.Context) (err error) {
	if p.plan, err = p.config.Limits.Plan(p.config.Machine); err != nil {
		return failure(unit.Refused, "handler %s is not started because %v", p.config.Handler, err)
	}
	if p.dir, err = p.config.Dirs.NewFor(p.plan); err != nil {
		return err
	}
	token, err := newToken()
	if err != nil {
		return err
	}
	if p.host, err = newHost(p.dir, token, p, p.plan, p.config.Elsewhere, p.config.MaxArtifactBytes); err != nil {
		return err
	}
	hctx, cancel := context.WithTimeoutCause(ctx, p.timeouts.Handshake, errHandshakeTimeout)
	defer cancel()
	if err := p.connect(hctx, token); err != nil {
		return err
	}
	dctx, cancel := context.WithTimeout(ctx, p.timeouts.Describe)
	defer cancel()
	return p.describe(dctx)
}

// connect runs go-plugin's part and gives up on it, by killing the process, when ctx ends.
func (p *Conn) connect(ctx context.Context, token string) error {
	r := &processRunner{name: p.config.Path, dir: p.dir}
	p.plugin = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{ProtocolVersion: ProtocolVersion, MagicCookieKey: CookieKey, MagicCookieValue: CookieValue},
		Plugins:          plugin.PluginSet{"handler": grpcPlugin{}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         p.config.MTLS,
		StartTimeout:     p.timeouts.Handshake,
		SkipHostEnv:      true,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: p.dir},
		Logger:           hclog.NewNullLogger(), // what it has to say is said by our own errors
		SyncStdout:       p.sync(),
		SyncStderr:       p.sync(),
		GRPCDialOptions: []grpc.DialOption{ // these come after go-plugin's own and override them
			grpc.WithContextDialer(r.dial),
			grpc.WithStreamInterceptor(p.conns.intercept),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
			grpc.WithIdleTimeout(0),
		},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			r.begin = func() (*launch.Process, string, error) { return p.launch(ctx, p.environment(cmd.Env, token)) }
			return r, nil
		},
	})
	done := make(chan error, 1)
	go func() { done <- p.dispense() }() // ends with the process at the latest
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		p.Kill() // everything in go-plugin that waits ends with the process
		err = <-done
	}
	var f *Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(context.Cause(ctx), errHandshakeTimeout):
		return failure(unit.StartTimeout, "handler %s could not be started because its connection did not work within %v", p.config.Handler, p.timeouts.Handshake)
	case ctx.Err() != nil:
		return failure(unit.Requested, "the start of handler %s was given up: %v", p.config.Handler, context.Cause(ctx))
	case err != nil:
		return failure(unit.Handshake, "handler %s could not be started because %v", p.config.Handler, err)
	}
	return nil
}

// dispense makes go-plugin start the process and connect to it.
func (p *Conn) dispense() error {
	if _, err := p.plugin.Start(); err != nil {
		return err
	}
	protocol, err := p.plugin.Client()
	if err != nil {
		return fmt.Errorf("its connection does not work: %w", err)
	}
	raw, err := protocol.Dispense("handler")
	if err != nil {
		return err
	}
	p.conn = raw.(*grpc.ClientConn)
	p.conns.add(p.conn)
	p.client = handlerv1.NewHandlerServiceClient(p.conn)
	p.health = grpc_health_v1.NewHealthClient(p.conn)
	return nil
}

// environment is the whole environment of the process.
func (p *Conn) environment(protocol []string, token string) []string {
	env := append([]string{}, p.config.Environment...)
	for _, kv := range protocol {
		if !strings.HasPrefix(kv, plugin.EnvUnixSocketDir+"=") {
			env = append(env, kv)
		}
	}
	p.mark = hostTokenVariable + "=" + token
	return append(env,
		plugin.EnvUnixSocketDir+"="+p.dir, // go-plugin's own choice is a level deeper, and paths are short of room
		launch.HostSocketVariable+"="+p.host.path,
		p.mark,
	)
}

// launch starts the process, begins to read its output for ever, and waits for its first line.
func (p *Conn) launch(ctx context.Context, env []string) (*launch.Process, string, error) {
	c := p.config
	process, err := c.Spawner.Spawn(ctx, launch.Spec{
		Path: c.Path, Argv0: c.Argv0, Args: c.Args, Dir: c.Dir, Env: env, Plan: p.plan, Private: p.dir, Mark: p.mark,
	})
	if err != nil {
		return nil, "", failure(unit.Spawn, "handler %s could not be started: %v", c.Handler, err)
	}
	p.process.Store(process)
	p.pump.SetProcess(process.PID(), c.Log.With("handler", c.Handler, "pid", process.PID()))
	first := make(chan string, 1)
	p.pumps.Add(2)
	go func() { defer p.pumps.Done(); p.pump.Copy(splitFirstLine(process.Stdout, first)) }()
	go func() { defer p.pumps.Done(); p.pump.Copy(process.Stderr) }()
	go func() { p.pumps.Wait(); close(p.pumped) }() // Close waits for it

	select {
	case line, ok := <-first:
		if ok {
			return p.firstLine(process, line)
		}
		// Standard output ended: the process is about to, or has.
	case <-process.Done():
		// What it printed before may still be on its way.
		select {
		case line, ok := <-first:
			if ok {
				return p.firstLine(process, line)
			}
		case <-time.After(p.timeouts.ExitDrain):
		}
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errHandshakeTimeout) {
			return process, "", failure(unit.StartTimeout, "handler %s could not be started because it printed no handshake within %v", c.Handler, p.timeouts.Handshake)
		}
		return process, "", failure(unit.Requested, "the start of handler %s was given up: %v", c.Handler, context.Cause(ctx))
	}
	if !p.endedSoon() {
		return process, "", failure(unit.Handshake, "handler %s could not be started because it closed its standard output without a handshake", c.Handler)
	}
	exit := p.Exit()
	return process, "", failure(exit.Reason, "handler %s could not be started because %s before its handshake", c.Handler, exit.Text)
}

// firstLine takes the line only if it is a handshake.
func (p *Conn) firstLine(process *launch.Process, line string) (*launch.Process, string, error) {
	_, err := parseHandshake(line)
	if err == nil {
		err = checkCertificate(line, p.config.MTLS)
	}
	if err != nil {
		return process, "", failure(unit.Handshake, "handler %s could not be started because %v", p.config.Handler, err)
	}
	return process, line, nil
}

// describe asks for the description and checks the health once.
func (p *Conn) describe(ctx context.Context) error {
	name := p.config.Handler
	d, err := p.client.Describe(ctx, &handlerv1.DescribeRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
	case err != nil:
		return p.startFailure(err, failure(unit.Describe, "handler %s could not be started because it failed to describe itself: %s", name, status.Convert(err).Message()))
	default:
		p.description = Description{
			Name: d.GetName(), Version: d.GetVersion(), SDK: d.GetSdk(), Cards: d.GetAgentCardsJson(), Described: true,
			Cancel: d.GetCapabilities().GetCancel(), Idempotent: d.GetCapabilities().GetIdempotent(),
		}
	}
	if err := p.Check(ctx); err != nil {
		return p.startFailure(err, failure(unit.Health, "handler %s could not be started because %v", name, err))
	}
	return nil
}

// startFailure prefers the end of the process as the reason when that is what broke the connection.
func (p *Conn) startFailure(err error, otherwise *Failure) *Failure {
	if status.Code(err) == codes.Unavailable && p.endedSoon() {
		f := p.Exit()
		f.Text = fmt.Sprintf("handler %s could not be started because %s", p.config.Handler, f.Text)
		return f
	}
	return otherwise
}

// Check asks for the health once, with its own deadline.
func (p *Conn) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeouts.Health)
	defer cancel()
	r, err := p.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("it did not answer a health check within %v", p.timeouts.Health)
	case err != nil:
		return &checkError{err}
	}
	if s := r.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("its health is %v instead of SERVING", s)
	}
	return nil
}

// checkError keeps the status of a failed health check and shows only its message.
type checkError struct{ err error }

func (e *checkError) Error() string {
	return "its health check failed: " + status.Convert(e.err).Message()
}
func (e *checkError) Unwrap() error { return e.err }

// Watch checks the health until ctx ends or the process does, which returns nil, or until too many checks in a row were
// missed, which returns a *Failure.
func (p *Conn) Watch(ctx context.Context) error {
	ticker := time.NewTicker(p.timeouts.HealthInterval)
	defer ticker.Stop()
	for missed := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-p.process.Load().Done():
			return nil
		case <-ticker.C:
		}
		err := p.Check(ctx)
		switch {
		case err == nil:
			missed = 0
			continue
		case ctx.Err() != nil:
			return nil
		}
		if missed++; missed >= p.timeouts.HealthMisses {
			return failure(unit.Health, "handler %s is replaced because it missed %d health checks in a row: %v", p.config.Handler, missed, err)
		}
	}
}

// Description of the handler.
func (p *Conn) Description() Description { return p.description }

// PID of the process.
func (p *Conn) PID() int { return p.process.Load().PID() }

// Owns reports whether pid is the process or a member of its process group or control group.
func (p *Conn) Owns(pid int) bool {
	process := p.process.Load()
	return process != nil && process.Owns(pid)
}

// Skipped says which limits of the process are not kept as wished, one sentence each.
func (p *Conn) Skipped() []string { return p.plan.Skipped }

// StartedAt is when the start of the process began.
func (p *Conn) StartedAt() time.Time { return p.startedAt }

// Done is closed when the process has ended.
func (p *Conn) Done() <-chan struct{} { return p.process.Load().Done() }

// Tail returns the last lines that the process wrote.
func (p *Conn) Tail(n int) []string { return p.pump.Tail(n) }

// Exit says how the process ended; call it only after Done.
func (p *Conn) Exit() *Failure {
	exit := p.process.Load().Exit()
	if exit.OutOfMemory {
		return failure(unit.OutOfMemory, "it was ended by %v", exit)
	}
	if exit.Signal != 0 {
		return failure(unit.Signal, "it was ended by %v", exit)
	}
	return failure(unit.ExitCode, "it ended with %v", exit)
}

// Failed completes a failure with what the process wrote; call it after Close.
func (p *Conn) Failed(f *Failure) *Failure {
	p.note(f)
	return f
}

func (p *Conn) note(f *Failure) {
	f.Crash = logpump.Crash{Time: time.Now(), Reason: f.Reason.String(), Text: f.Text, Panic: p.pump.Panic(), Lines: p.pump.Tail(logpump.Kept)}
	if process := p.process.Load(); process != nil {
		f.Crash.PID = process.PID()
	}
}

// endedSoon waits a moment for the end of the process: its connection breaks first.
func (p *Conn) endedSoon() bool {
	select {
	case <-p.process.Load().Done():
		return true
	case <-time.After(p.timeouts.ExitNotice):
		return false
	}
}

// sync returns a writer for what go-plugin's Go server sends of the handler's os.Stdout and os.Stderr.
func (p *Conn) sync() *logpump.Writer {
	w := p.pump.Writer()
	p.synced = append(p.synced, w)
	return w
}

// Kill ends the process and its group at once. Done follows.
func (p *Conn) Kill() {
	if p.process.Load() != nil {
		_ = p.process.Load().Signal(syscall.SIGKILL)
	}
}

func newToken() (string, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return hex.EncodeToString(b), nil
}

type grpcPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (grpcPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the daemon is no handler")
}

func (grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// removeDir deletes the private directory with the sockets in it.
func (p *Conn) removeDir() {
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}
