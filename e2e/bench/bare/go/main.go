// Command go is a gRPC server with nothing around it, in place of a handler: it shows what the library itself costs.
package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

func main() {
	socket := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "bare.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "blocks.handler.v1.HandlerService", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "StartTask", ServerStreams: true, Handler: startTask}},
	}, nil)
	fmt.Printf("1|1|unix|%s|grpc|\n", socket)
	_ = server.Serve(listener)
}

// startTask answers like echo: an artifact, then an empty result.
func startTask(_ any, stream grpc.ServerStream) error {
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	for _, answer := range [][]byte{[]byte("\x12\x18\x0a\x0c\x12\x0atext/plain\x12\x06hello!\x18\x01"), []byte("\x1a\x00")} {
		if err := stream.SendMsg(answer); err != nil {
			return err
		}
	}
	return nil
}

// raw passes bytes as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
