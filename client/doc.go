// Package client is the consumer's side of the Blocks Network: it sends tasks to agents, follows their events, and gets
// their artifacts and streams.
//
//	c, err := client.New(ctx, client.Options{APIKey: os.Getenv("BLOCKS_API_KEY")})
//	…
//	defer c.Close()
//	s, err := c.Send(ctx, client.Message{Agent: "echo", Parts: []client.Part{client.Text("request", "hello")}})
//	…
//	defer s.Close()
//	end, err := s.Wait(ctx)
//
// Every call takes a context first. What can be followed is an iterator, which ends with an error where something went
// wrong and simply ends where it is over. Nothing needs a callback, and nothing runs after Close. All methods may be called
// from any goroutine.
package client
