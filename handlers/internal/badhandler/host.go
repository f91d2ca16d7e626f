package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/pluginsdk"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// hostCall publishes to the host service by hand: "task=ID", "socket=PATH" and "token=TEXT" replace what is right. It
// answers with the status code and message.
func hostCall(ctx context.Context, t *pluginsdk.Task, argument string) error {
	values := map[string]string{"task": t.ID, "socket": os.Getenv("BLOCKSD_HOST_SOCKET"), "token": os.Getenv("BLOCKSD_HOST_TOKEN")}
	for _, word := range strings.Fields(argument) {
		name, value, _ := strings.Cut(word, "=")
		values[name] = value
	}
	conn, err := grpc.NewClient("unix:"+values["socket"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "blocksd-host-token", values["token"])
	stream, err := handlerv1.NewHostServiceClient(conn).PublishArtifact(ctx)
	if err == nil {
		_ = stream.Send(&handlerv1.PublishArtifactRequest{TaskId: values["task"], Chunk: &handlerv1.ArtifactChunk{
			Info: &handlerv1.ArtifactInfo{FileName: "by-hand"}, Data: []byte("x"), Last: true,
		}})
		_, err = stream.CloseAndRecv()
	}
	return t.Send(pluginsdk.Text(fmt.Sprintf("%v: %s", status.Code(err), status.Convert(err).Message())))
}
