package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/sandbox"
)

// Send a task and follow it to its end.
func Example() {
	network, stop := exampleNetwork()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	c, err := client.New(ctx, network) // on the public network: client.Options{APIKey: os.Getenv("BLOCKS_API_KEY")}
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	s, err := c.Send(ctx, client.Message{Agent: "shout", Parts: []client.Part{client.Text("request", "hello")}})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for e, err := range s.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		switch e.Type {
		case client.EventProgress:
			fmt.Println("progress:", e.Message+string(e.State))
		case client.EventTerminal:
			fmt.Println("end:", e.State)
		}
	}
	for _, a := range s.Artifacts() {
		d, err := s.Download(ctx, a)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", a.OutputID, d.Data)
	}
	// Output:
	// progress: running
	// progress: taking a deep breath
	// end: completed
	// reply: HELLO!
}

// Read what an agent streams while its task runs.
func ExampleStream() {
	network, stop := networkOf(streamCard, "words", 8, func(ctx context.Context, _ *wire.Task, port dispatch.TaskPort) error {
		out, _, err := port.CreateStream(ctx, dispatch.StreamRequest{Declared: "_default"})
		for _, word := range []string{"one ", "two ", "three"} {
			if err == nil {
				err = out.Write(ctx, []dispatch.StreamItem{{Kind: dispatch.StreamText, Data: []byte(word)}}, true)
			}
		}
		return err
	})
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(ctx, network)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	s, err := c.Send(ctx, client.Message{Agent: "words", Stream: client.StreamOn})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	ref, err := s.WaitStream(ctx, "") // the only one
	if err != nil {
		log.Fatal(err)
	}
	stream, err := ref.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for text, err := range stream.Text(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(text)
	}
	fmt.Println()
	// Output: one two three
}

// Only the end matters.
func ExampleSession_Wait() {
	network, stop := exampleNetwork()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(ctx, network)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	s, err := c.Send(ctx, client.Message{Agent: "shout"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	end, err := s.Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(end.State, "because", end.Error)
	// Output: failed because there is nothing to shout
}

// A task that was sent before, perhaps by another program, is connected to by its id.
func ExampleClient_Connect() {
	network, stop := exampleNetwork()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(ctx, network)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	// The same key is the same task, however often it is sent.
	m := client.Message{Agent: "shout", Parts: []client.Part{client.Text("request", "again")}, IdempotencyKey: "order 17"}
	first, err := c.Send(ctx, m)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()
	if _, err := first.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	s, err := c.Connect(ctx, first.TaskID())
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	dir, err := os.MkdirTemp("", "artifacts")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	paths, err := s.Save(ctx, dir)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(paths), "file")
	again, err := c.Send(ctx, m)
	if err != nil {
		log.Fatal(err)
	}
	defer again.Close()
	fmt.Println("the same task:", again.Idempotent() && again.TaskID() == first.TaskID())
	// Output:
	// 1 file
	// the same task: true
}

// Errors have types.
func ExampleRPCError() {
	network, stop := exampleNetwork()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.New(ctx, network)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, err = c.Send(ctx, client.Message{Agent: "nobody"})
	var missing *client.NotFoundError
	fmt.Println("not found:", errors.As(err, &missing))
	var rpc *client.RPCError
	if err := c.Cancel(ctx, "task_unknown"); errors.As(err, &rpc) {
		fmt.Println(rpc.Code, rpc.AppCode)
	}
	// Output:
	// not found: true
	// -32000 TaskNotFound
}

// A file that comes from anywhere. It is opened again when an upload has to be repeated.
func ExampleReader() {
	part := client.Reader("document", "letter.txt", func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("Dear Sir or Madam")), nil
	})
	fmt.Println(part.ID, part.Name, part.IsFile())
	// Output: document letter.txt true
}

// exampleNetwork is a network of its own with an agent that shouts, and the options of a client of it.
func exampleNetwork() (options client.Options, stop func()) { return networkWith("shout", 8, shout) }

func networkWith(name string, concurrency int, handler agent.Function) (options client.Options, stop func()) {
	return networkOf(cardText, name, concurrency, handler)
}

func networkOf(text, name string, concurrency int, handler agent.Function) (options client.Options, stop func()) {
	c, err := card.Parse([]byte(strings.NewReplacer("NAME", name, "MODE", "free").Replace(text)))
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	c.Concurrency, c.ExpectedInstances = concurrency, 1
	network, err := sandbox.New(sandbox.Config{BlobDir: dir})
	if err == nil {
		err = network.Register(c)
	}
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- network.Run(ctx) }()
	cdm, err := backend.FetchCDM(ctx, nil, network.CDMURL())
	if err != nil {
		log.Fatal(err)
	}
	api, err := backend.New(backend.Config{BaseURL: cdm.BaseURL})
	if err != nil {
		log.Fatal(err)
	}
	a, err := agent.New(agent.Config{
		Card: c, Handler: name, Dispatcher: agent.NewFuncDispatcher(handler), APIKey: network.APIKey(), Backend: api, CDM: cdm, Origin: cdm.PubNubOrigin,
	})
	if err != nil {
		log.Fatal(err)
	}
	serving, stopServing := context.WithCancel(ctx)
	go func() { ended <- a.Run(serving) }()
	return client.Options{CDMURL: network.CDMURL(), APIKey: network.APIKey(), Getenv: noEnvironment}, func() {
		stopServing()
		<-ended
		cancel()
		<-ended
		api.Close()
		os.RemoveAll(dir)
	}
}

func shout(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
	if len(task.Parts) == 0 {
		return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "there is nothing to shout"}
	}
	port.Status("taking a deep breath")
	return port.Artifact(ctx, wire.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte(strings.ToUpper(*task.Parts[0].Text) + "!")})
}
