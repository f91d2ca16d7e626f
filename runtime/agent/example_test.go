package agent_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/sandbox"
)

const shoutCard = `{
	"identity": {"agentName": "shout", "displayName": "Shout", "description": "Shouts.", "version": "1.0.0",
		"provider": {"organization": "Examples"}},
	"capabilities": {"taskKinds": ["request"]},
	"io": {
		"inputs": [{"id": "request", "description": "What to shout.", "contentType": "text/plain", "required": true, "example": "hi"}],
		"outputs": [{"id": "reply", "description": "Loud.", "contentType": "text/plain", "guaranteed": true}]},
	"tags": [{"id": "example", "name": "Example"}],
	"runtime": {"handler": "./shout", "concurrency": 1}
}`

// shout is the handler: a Go function instead of a process.
func shout(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
	if len(task.Parts) == 0 || task.Parts[0].Text == nil || *task.Parts[0].Text == "" {
		return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "The task has no text to shout."}
	}
	port.Status("taking a deep breath")
	fmt.Println(*task.Parts[0].Text + "!")
	return port.Artifact(ctx, wire.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte(*task.Parts[0].Text + "!")})
}

// A program that serves an agent with a Go function. This one brings its network along; on the real one cdmURL is
// backend.DefaultCDMURL, and apiKey that of the organization that the agent was registered by.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := card.Parse([]byte(shoutCard))
	if err != nil {
		log.Fatal(err)
	}
	cdmURL, apiKey, closeNetwork := startSandbox(c)
	defer closeNetwork()

	cdm, err := backend.FetchCDM(ctx, nil, cdmURL)
	if err != nil {
		log.Fatal(err)
	}
	api, err := backend.New(backend.Config{BaseURL: cdm.BaseURL})
	if err != nil {
		log.Fatal(err)
	}
	events := event.NewBus(event.Config{}) // what becomes of the agent and its tasks
	tasks := events.Follow(event.TaskEnded)
	defer tasks.Close()
	c.Concurrency, c.ExpectedInstances = 8, 1 // instead of what the card says
	a, err := agent.New(agent.Config{
		Card: c, Handler: "shout", Dispatcher: agent.NewFuncDispatcher(shout),
		APIKey: apiKey, Backend: api, CDM: cdm, Origin: cdm.PubNubOrigin, Drain: 30 * time.Second,
		InstanceID: "AG-shout-1", // one is made up where it is left empty
		Events:     events,
	})
	if err != nil {
		log.Fatal(err)
	}
	serving, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- a.Run(serving) }()
	fmt.Println("instance", a.Status().InstanceID)

	// Somebody uses the agent; tasks wait in the network until it is there.
	consumer := api.NewConsumer(apiKey)
	for _, text := range []string{"hello", ""} {
		task, err := consumer.SendMessage(ctx, backend.SendRequest{
			AgentName: "shout", BillingMode: wire.Free, Parts: []wire.Part{{PartID: "request", ContentType: "text/plain", Text: &text}},
		})
		if err != nil {
			log.Fatal(err)
		}
		row := backend.TaskRow{}
		for !row.State.Final() {
			time.Sleep(10 * time.Millisecond)
			if row, err = consumer.GetTask(ctx, task.TaskID); err != nil {
				log.Fatal(err)
			}
		}
		e, err := tasks.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %q\n", e.State, e.Reason)
	}

	stop() // what runs may go on for Config.Drain
	if err := <-stopped; err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Status().State)
	// Output:
	// instance AG-shout-1
	// hello!
	// completed ""
	// failed "The task has no text to shout."
	// offline
}

// startSandbox starts a network of its own in which the agent of c is registered.
func startSandbox(c card.Card) (cdmURL, apiKey string, closeNetwork func()) {
	sb, err := sandbox.New(sandbox.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	if err := sb.Register(c); err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sb.Run(ctx) }()
	return sb.CDMURL(), sb.APIKey(), func() {
		stop()
		if err := <-ended; err != nil {
			log.Fatal(err)
		}
	}
}
