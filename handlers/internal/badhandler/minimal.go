package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// minimal is not a fault: it serves the least that the contract asks for, without SDK and go-plugin, as a handler in another
// language may. Its Describe, CancelTask and controller are UNIMPLEMENTED.
func minimal() { serveMinimal(nil) }

// serveMinimal does describe, if there is one, instead of describing itself.
func serveMinimal(describe func()) {
	serve(&minimalService{describe: describe}, healthOf("plugin"))
}

// healthOf is a health service that knows one service, which serves.
func healthOf(service string) *health.Server {
	h := health.NewServer()
	h.SetServingStatus(service, grpc_health_v1.HealthCheckResponse_SERVING)
	return h
}

// refusingHealth answers with an error that says nothing, as grpcio does when a servicer only sets a code.
type refusingHealth struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (refusingHealth) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return nil, status.Error(codes.PermissionDenied, "")
}

// serve serves a handler with its health, if there is one.
func serve(handler *minimalService, h grpc_health_v1.HealthServer) {
	listener, err := net.Listen("unix", os.Getenv("PLUGIN_UNIX_SOCKET_DIR")+"/minimal")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(floodBroker))
	if h != nil {
		grpc_health_v1.RegisterHealthServer(s, h)
	}
	handlerv1.RegisterHandlerServiceServer(s, handler)
	fmt.Printf("1|1|unix|%s|grpc|\n", listener.Addr())
	_ = s.Serve(listener)
	os.Exit(0)
}

// floodBroker sends on go-plugin's broker stream, if the daemon opens it, without end: each message offers one more
// connection with an id of its own.
func floodBroker(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	if method != "/plugin.GRPCBroker/StartStream" {
		return status.Error(codes.Unimplemented, "unknown method")
	}
	brokerOpened.Store(true)
	for id := int32(0); ; id++ {
		if err := stream.SendMsg(wrapperspb.Int32(id)); err != nil { // its field 1 is that of the service id
			return err
		}
	}
}

var brokerOpened atomic.Bool

type minimalService struct {
	handlerv1.UnimplementedHandlerServiceServer
	describe func() // nil for nothing
	refusal  error  // of Describe; nil for UNIMPLEMENTED
}

func (s *minimalService) Describe(ctx context.Context, r *handlerv1.DescribeRequest) (*handlerv1.DescribeResponse, error) {
	if s.describe != nil {
		s.describe()
	}
	if s.refusal != nil {
		return nil, s.refusal
	}
	return s.UnimplementedHandlerServiceServer.Describe(ctx, r)
}

// StartTask answers with what the request says, a message for each word.
func (*minimalService) StartTask(r *handlerv1.StartTaskRequest, stream grpc.ServerStreamingServer[handlerv1.StartTaskResponse]) error {
	send := func(m *handlerv1.StartTaskResponse) { _ = stream.Send(m) }
	chunk := func(info bool, data string, last bool) {
		c := &handlerv1.ArtifactChunk{Data: []byte(data), Last: last}
		if info {
			c.Info = &handlerv1.ArtifactInfo{MimeType: "text/plain"}
		}
		send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Artifact{Artifact: c}})
	}
	switch text := r.GetTask().GetParts()[0].GetText(); text {
	case "hang":
		<-stream.Context().Done()
		return stream.Context().Err()
	case "broker":
		chunk(true, fmt.Sprint("broker opened: ", brokerOpened.Load()), true)
		send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Result{}})
	case "status-error":
		return status.Error(codes.Internal, "it broke")
	case "empty-error":
		send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Error{Error: &handlerv1.Error{}}})
	case "empty-message":
		send(&handlerv1.StartTaskResponse{})
		send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Result{}})
	case "unknown-info":
		chunk(false, "x", true) // a first chunk without a description
	case "unfinished":
		chunk(true, "x", false)
		send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Result{}})
	case "mixed":
		chunk(true, "x", false)
		chunk(true, "y", true)
	case "after-result":
		send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Result{}})
		chunk(true, "ignored", true)
		<-stream.Context().Done()
	default:
		chunk(true, text[:len(text)/2], false)
		chunk(false, text[len(text)/2:], true)
		send(&handlerv1.StartTaskResponse{Event: &handlerv1.StartTaskResponse_Result{}})
	}
	return nil
}
