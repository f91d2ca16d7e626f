// Command sessions follows the tasks whose ids it reads from standard input, one a line, by one client with a session for
// each; e2e/interop/blocks/sessions.py does the same with Blocks' own SDK. It prints "connected" when it may be given them,
// "running" when it has seen all of them run, and for each task its id with the time in nanoseconds at which the wait for its
// end returned.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/blocksd/blocksd/client"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "sessions:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c, err := client.New(ctx, client.Options{APIKey: os.Getenv("BLOCKS_API_KEY")})
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("connected")
	var ids []string
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		ids = append(ids, lines.Text())
	}
	if err := lines.Err(); err != nil {
		return err
	}
	var running, ended sync.WaitGroup
	running.Add(len(ids))
	errs := make(chan error, len(ids))
	for _, id := range ids {
		ended.Go(func() {
			if err := follow(ctx, c, id, sync.OnceFunc(running.Done)); err != nil {
				errs <- err
			}
		})
	}
	running.Wait()
	fmt.Println("running")
	ended.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// follow calls running when the task has been seen to run, and says when it has ended.
func follow(ctx context.Context, c *client.Client, id string, running func()) error {
	defer running() // also where it fails
	s, err := c.Connect(ctx, id)
	if err != nil {
		return err
	}
	defer s.Close()
	for e, err := range s.Events(ctx) {
		if err != nil {
			return err
		}
		if e.State == client.Running {
			break
		}
	}
	running()
	_, err = s.Wait(ctx)
	fmt.Println(id, time.Now().UnixNano())
	return err
}
