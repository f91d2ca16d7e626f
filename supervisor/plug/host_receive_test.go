package plug

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/internal/testutil"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// TestRequestsArriveInTurn: only so many requests are read at once; one that never comes makes others of the same process
// wait until it is given up.
func TestRequestsArriveInTurn(t *testing.T) {
	const slots = 2
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	r := newReceiver(slots)
	server := grpc.NewServer(grpc.StatsHandler(r), grpc.WaitForHandlers(true))
	handlerv1.RegisterHostServiceServer(server, handlerv1.UnimplementedHostServiceServer{})
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-served })
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })

	stuck, release := context.WithCancel(t.Context())
	defer release()
	for range slots { // calls that never send their message
		if _, err := conn.NewStream(stuck, &grpc.StreamDesc{ClientStreams: true}, handlerv1.HostService_WriteStream_FullMethodName); err != nil {
			t.Fatal(err)
		}
	}
	testutil.Eventually(t, patience, "both requests are arriving", func() bool { return len(r.slots) == slots })
	client := handlerv1.NewHostServiceClient(conn)
	// Given up here alone: with a deadline the server would give up, too, and its answer might come first.
	short, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(100*time.Millisecond, cancel).Stop()
	if _, err := client.WriteStream(short, &handlerv1.WriteStreamRequest{}); status.Code(err) != codes.Canceled {
		t.Errorf("a request beyond the limit: %v", err)
	}
	release()
	for range 3 * slots {
		if _, err := client.WriteStream(t.Context(), &handlerv1.WriteStreamRequest{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("a request afterwards: %v", err)
		}
	}
	testutil.Eventually(t, patience, "no request is arriving", func() bool { return len(r.slots) == 0 })
}
