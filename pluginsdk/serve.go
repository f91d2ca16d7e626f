package pluginsdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	hclog "github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// Serve serves h to the daemon that started this process and does not return.
func Serve(h Handler) {
	if message := serve(h, os.Args[0]); message != "" {
		fmt.Fprintln(os.Stderr, message)
		os.Exit(1)
	}
}

// serve returns only when it cannot serve, with a sentence for the person who looks.
func serve(h Handler, program string) string {
	if err := h.check(); err != nil {
		return err.Error()
	}
	name := filepath.Base(program)
	if h.Name == "" {
		h.Name = name
	}
	if os.Getenv(handlerv1.CookieVariable) != handlerv1.CookieValue {
		return fmt.Sprintf("%s is a Blocks handler and does nothing by itself: put it into a plugins directory of blocksd, or try it with \"blocksd dev --plugins %s\".", name, filepath.Dir(program))
	}
	// go-plugin replaces os.Stderr while it serves; records written here reach the daemon even when its connection is gone.
	stderr := os.Stderr
	slog.SetDefault(slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	svc := newService(h, &host{socket: os.Getenv(handlerv1.HostSocketVariable), token: os.Getenv(handlerv1.HostTokenVariable)})
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: handlerv1.ProtocolVersion, MagicCookieKey: handlerv1.CookieVariable, MagicCookieValue: handlerv1.CookieValue},
		Plugins:         plugin.PluginSet{"handler": &grpcPlugin{service: svc}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			opts = append(opts, grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
			return grpc.NewServer(append(opts, h.ServerOptions...)...)
		},
		Logger: quiet(stderr),
	})
	return ""
}

// quiet is go-plugin's own log: its everyday lines are of no use to anybody.
func quiet(w io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: w, JSONFormat: true})
}

type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	service *service
}

func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	handlerv1.RegisterHandlerServiceServer(s, p.service)
	return nil
}

func (p *grpcPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a handler is no client")
}
