package plug

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// connect runs go-plugin's part and gives up on it, by killing the process, when ctx ends.
func (p *Conn) connect(ctx context.Context, token string) error {
	r := &processRunner{name: p.config.Path, dir: p.dir}
	p.turns = newTurns(maxLarge)
	config := &plugin.ClientConfig{
		HandshakeConfig:  plugin.HandshakeConfig{ProtocolVersion: handlerv1.ProtocolVersion, MagicCookieKey: handlerv1.CookieVariable, MagicCookieValue: handlerv1.CookieValue},
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
			grpc.WithMaxHeaderListSize(maxHeaders),
			grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithStaticConnWindowSize(connWindow), // gRPC's own choice grows to 16 MiB for each call
			grpc.WithIdleTimeout(0),
		},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			env, err := p.environment(cmd.Env, token)
			r.begin = func() (*launch.Process, string, error) { return p.launch(ctx, env) }
			return r, err
		},
	}
	config.GRPCDialOptions = append(config.GRPCDialOptions, grpc.WithTransportCredentials(pacing{config, p.turns, &p.works}))
	p.plugin = plugin.NewClient(config)
	done := make(chan error, 1)
	go func() { done <- p.dispense() }() // ends with the process at the latest
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		p.leftBehind = !p.KillAndWait()
		// What go-plugin waits for ends with the process or with its connections, unless something that the process has
		// started holds them.
		p.conns.close()
		timer := time.NewTimer(p.timeouts.Kill)
		defer timer.Stop()
		select {
		case err = <-done:
		case <-timer.C:
			p.abandoned = true
		}
	}
	var f *Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(context.Cause(ctx), errHandshakeTimeout):
		return failure(unit.StartTimeout, "handler %s could not be started because its connection did not work within %v", p.config.Handler, p.timeouts.Handshake)
	case ctx.Err() != nil:
		return p.givenUp(ctx)
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
func (p *Conn) environment(protocol []string, token string) ([]string, error) {
	env := append([]string{}, p.config.Environment...)
	temp, home := p.plan.OwnTemp(), p.plan.OwnHome(variable(env, "HOME"))
	if temp || home {
		own := filepath.Join(p.dir, "tmp")
		if !p.plan.Launched() { // else the launcher has made it
			if err := p.makeOwn(own); err != nil {
				return nil, err
			}
		}
		if temp {
			env = withVariable(env, "TMPDIR", own)
		}
		if home {
			env = withVariable(env, "HOME", own)
		}
	}
	for _, kv := range protocol {
		if !strings.HasPrefix(kv, plugin.EnvUnixSocketDir+"=") {
			env = append(env, kv)
		}
	}
	p.mark = handlerv1.HostTokenVariable + "=" + token
	return append(env,
		plugin.EnvUnixSocketDir+"="+p.dir, // go-plugin's own choice is a level deeper, and paths are short of room
		handlerv1.HostSocketVariable+"="+p.host.path,
		p.mark,
	), nil
}

// makeOwn makes a directory that is the process's alone.
func (p *Conn) makeOwn(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("a directory for temporary files could not be made for it: %w", err)
	}
	if p.plan.Foreign() { // a unit's filter of system calls refuses even what would change nothing
		if err := launch.Give(dir, p.plan.UID(), p.plan.GID()); err != nil {
			return fmt.Errorf("its directory for temporary files could not be given to it: %w", err)
		}
	}
	return nil
}

// variable is the value of a variable, "" when there is none.
func variable(env []string, name string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

func withVariable(env []string, name, value string) []string {
	return append(slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }), name+"="+value)
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
	return errors.New("the daemon is not a handler")
}

func (grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
