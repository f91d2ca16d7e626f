package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/pluginsdk"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func init() {
	faults["stream-misuse"] = misuseStreams
	faults["stream-many"] = manyStreams
	faults["stream-flood"] = floodStream
	faults["stream-crash"] = crashInStream
	faults["stream-leak"] = leakStream
}

// misuseStreams asks the host service by hand for what it must refuse, and answers with what it said, a line each; in
// between it uses its streams as it should.
func misuseStreams(ctx context.Context, t *pluginsdk.Task, _ string) error {
	conn, err := grpc.NewClient("unix:"+os.Getenv("BLOCKSD_HOST_SOCKET"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(32<<20)))
	if err != nil {
		return err
	}
	defer conn.Close()
	host := handlerv1.NewHostServiceClient(conn)
	ctx = metadata.AppendToOutgoingContext(ctx, "blocksd-host-token", os.Getenv("BLOCKSD_HOST_TOKEN"))
	var said []string
	note := func(what string, err error) {
		message := status.Convert(err).Message()
		said = append(said, strings.ReplaceAll(fmt.Sprintf("%s: %v: %s", what, status.Code(err), message), t.ID, "TASK"))
	}
	create := func(what string, r *handlerv1.CreateStreamRequest) string {
		r.TaskId = t.ID
		m, err := host.CreateStream(ctx, r)
		note(what, err)
		return m.GetStreamId()
	}
	create("undeclared", &handlerv1.CreateStreamRequest{DeclaredStream: "nope"})
	create("not named", &handlerv1.CreateStreamRequest{})
	create("wrong direction", &handlerv1.CreateStreamRequest{DeclaredStream: "log", Direction: handlerv1.StreamDirection_STREAM_DIRECTION_INBOUND})
	create("wrong format", &handlerv1.CreateStreamRequest{DeclaredStream: "log", Format: handlerv1.StreamFormat_STREAM_FORMAT_EVENTS})
	create("unknown format", &handlerv1.CreateStreamRequest{DeclaredStream: "log", Format: 99})
	create("metadata", &handlerv1.CreateStreamRequest{DeclaredStream: "log", MetadataJson: []byte(`[1]`)})
	create("large metadata", &handlerv1.CreateStreamRequest{DeclaredStream: "log", MetadataJson: fmt.Appendf(nil, `{"a":%q}`, strings.Repeat("x", 64<<10))})
	log := create("log", &handlerv1.CreateStreamRequest{DeclaredStream: "log"})
	ticks := create("ticks", &handlerv1.CreateStreamRequest{DeclaredStream: "ticks"})
	upper := create("upper", &handlerv1.CreateStreamRequest{DeclaredStream: "upper"})
	write := func(what, id string, items ...*handlerv1.StreamItem) {
		_, err := host.WriteStream(ctx, &handlerv1.WriteStreamRequest{TaskId: t.ID, StreamId: id, Items: items})
		note(what, err)
	}
	text := &handlerv1.StreamItem{Item: &handlerv1.StreamItem_Text{Text: "good"}}
	event := func(s string) *handlerv1.StreamItem {
		return &handlerv1.StreamItem{Item: &handlerv1.StreamItem_EventJson{EventJson: []byte(s)}}
	}
	write("write", log, text)
	write("empty item", log, text, &handlerv1.StreamItem{})
	write("event to bytes", log, event(`{}`))
	write("text to events", ticks, text)
	write("string to events", ticks, event(`"x"`))
	write("no JSON", ticks, event(`{"a":`))
	write("all or none", ticks, event(`{"good":1}`), event(`"x"`))
	write("event", ticks, event(`{"good":2}`))
	write("too large", log, &handlerv1.StreamItem{Item: &handlerv1.StreamItem_Data{Data: make([]byte, 5<<20)}})
	write("inbound", upper, text)
	write("unknown stream", "nope", text)
	_, err = host.WriteStream(ctx, &handlerv1.WriteStreamRequest{TaskId: "elsewhere", StreamId: log, Items: []*handlerv1.StreamItem{text}})
	note("unknown task", err)
	read := func(what, id string) {
		stream, err := host.ReadStream(ctx, &handlerv1.ReadStreamRequest{TaskId: t.ID, StreamId: id})
		if err == nil {
			_, err = stream.Recv()
		}
		note(what, err)
	}
	read("read outbound", log)
	_, err = host.ActivateStream(ctx, &handlerv1.ActivateStreamRequest{TaskId: t.ID, StreamId: log})
	note("activate", err)
	_, err = host.EndTask(ctx, &handlerv1.EndTaskRequest{TaskId: t.ID})
	note("end task", err)
	for range 2 {
		_, err = host.EndStream(ctx, &handlerv1.EndStreamRequest{TaskId: t.ID, StreamId: log})
		note("end", err)
	}
	write("after the end", log, text)
	stranger := metadata.AppendToOutgoingContext(context.WithoutCancel(ctx), "blocksd-host-token", "x")
	_, err = host.EndStream(stranger, &handlerv1.EndStreamRequest{TaskId: t.ID, StreamId: ticks})
	note("two tokens", err)
	return t.Send(pluginsdk.Text(strings.Join(said, "\n")))
}

// manyStreams opens so many streams, or as many as it gets.
func manyStreams(ctx context.Context, t *pluginsdk.Task, argument string) error {
	opened := 0
	var last error
	for range atoi(argument) {
		if _, last = t.CreateStream(ctx, pluginsdk.StreamOptions{Declared: "ticks"}); last != nil {
			break
		}
		opened++
	}
	return t.Send(pluginsdk.Text(fmt.Sprintf("%d %v", opened, last)))
}

// floodStream writes as much as it can for so many seconds, from many goroutines, then answers with how much it was.
func floodStream(ctx context.Context, t *pluginsdk.Task, argument string) error {
	s, err := t.CreateStream(ctx, pluginsdk.StreamOptions{Declared: "log"})
	if err != nil {
		return err
	}
	t.Status("flooding")
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	results := make(chan int, 8)
	end := time.Now().Add(time.Duration(atoi(argument)) * time.Second)
	for range cap(results) {
		go func() {
			n := 0
			for time.Now().Before(end) && ctx.Err() == nil {
				if err := s.TryWrite(chunk); err == nil {
					n += len(chunk)
				} else if !errors.Is(err, pluginsdk.ErrStreamFull) {
					break
				} else {
					time.Sleep(time.Millisecond)
				}
			}
			results <- n
		}()
	}
	total := 0
	for range cap(results) {
		total += <-results
	}
	return t.Send(pluginsdk.Text(fmt.Sprint(total)))
}

// crashInStream kills its process when it has written to a stream.
func crashInStream(ctx context.Context, t *pluginsdk.Task, argument string) error {
	s, err := t.CreateStream(ctx, pluginsdk.StreamOptions{Declared: "log"})
	if err != nil {
		return err
	}
	if err := s.WriteText("before the crash"); err != nil {
		return err
	}
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if argument == "detached" { // a pipe task whose handler has returned
		go func() {
			time.Sleep(200 * time.Millisecond)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}()
		return nil
	}
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// leakStream leaves streams open, with a reader that waits and a writer that goes on after its task.
func leakStream(ctx context.Context, t *pluginsdk.Task, _ string) error {
	out, err := t.CreateStream(context.Background(), pluginsdk.StreamOptions{Declared: "log"})
	if err != nil {
		return err
	}
	in, err := t.CreateStream(context.Background(), pluginsdk.StreamOptions{Declared: "upper"})
	if err != nil {
		return err
	}
	go func() {
		for range in.Bytes() {
		}
		for out.WriteText("late") == nil {
			time.Sleep(time.Millisecond)
		}
		fmt.Fprintln(stderr, "let go of the streams of", t.ID)
	}()
	t.Status("leaking")
	<-ctx.Done()
	return ctx.Err()
}
