package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/blocksd/blocksd/client"
)

// sendChunk is how much of a file is written into a stream at once.
const sendChunk = 32 << 10

// stdinPath stands for standard input where a file is named.
const stdinPath = "-"

// sendFlag is a file that goes into a stream.
type sendFlag struct{ stream, path string }

// sendValue is the pflag.Value of --send.
type sendValue struct{ list *[]sendFlag }

func (v sendValue) String() string { return "" }
func (v sendValue) Type() string   { return "NAME=PATH" }

func (v sendValue) Set(s string) error {
	name, path, ok := strings.Cut(s, "=")
	if !ok || name == "" || path == "" {
		return errors.New("must be NAME=PATH: the stream's name in the agent's card, and a file")
	}
	for _, other := range *v.list {
		if other.stream == name {
			return fmt.Errorf("stream %s is given twice", name)
		}
		if other.path == stdinPath && path == stdinPath {
			return fmt.Errorf("standard input is given twice, for stream %s and for stream %s", other.stream, name)
		}
	}
	if path != stdinPath {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("there is no file %s", path)
		}
		if info.IsDir() {
			return fmt.Errorf("%s is a directory", path)
		}
	}
	*v.list = append(*v.list, sendFlag{name, path})
	return nil
}

// sending writes files into streams while the task is followed.
type sending struct{ group errgroup.Group }

// send begins to write each file into its stream, once that is announced. It gives up when ctx ends: when the task has
// ended.
func (a *app) send(ctx context.Context, s *client.Session, files []sendFlag, out *callPrinter) *sending {
	var g sending
	for _, f := range files {
		g.group.Go(func() error {
			err := a.sendFile(ctx, s, f)
			if ctx.Err() != nil && !errors.Is(err, errNotSent) {
				return nil // the task is over: what it did not want to read is no error
			}
			if err != nil {
				out.remark("blocksd: " + err.Error())
			}
			return err
		})
	}
	return &g
}

// errNotSent is for what was wrong with a file or its stream, and not with the moment.
var errNotSent = errors.New("not sent")

// wait returns the error of a file that was not sent. It has been printed.
func (g *sending) wait(agent string) error {
	if err := g.group.Wait(); err != nil {
		return &exitError{code: exitFailure, err: fmt.Errorf("call %s: %w", agent, err), silent: true}
	}
	return nil
}

func (a *app) sendFile(ctx context.Context, s *client.Session, f sendFlag) error {
	fail := func(err error) error { return fmt.Errorf("send %s into stream %s: %w", f.path, f.stream, err) }
	ref, err := s.WaitStream(ctx, f.stream)
	if err != nil {
		return fail(err)
	}
	if ref.Direction() == client.Inbound {
		return fail(fmt.Errorf("%w: only the agent writes this stream", errNotSent))
	}
	stream, err := ref.Open(ctx)
	if err != nil {
		return fail(err)
	}
	source, closeSource, err := a.source(f.path)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", errNotSent, err))
	}
	defer closeSource()
	write := stream.Write
	next := pieces(source)
	if stream.Format() == client.FormatEvents {
		next = jsonLines(source)
		write = func(ctx context.Context, line []byte) error { return stream.WriteEvent(ctx, json.RawMessage(line)) }
	}
	for {
		piece, err := nextPiece(ctx, next)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = write(ctx, piece)
		}
		if err != nil {
			return fail(errors.Join(err, stream.End(ctx))) // the agent must not wait for more
		}
	}
	if err := stream.End(ctx); err != nil {
		return fail(err)
	}
	return nil
}

func (a *app) source(path string) (io.Reader, func(), error) {
	if path == stdinPath {
		return a.Stdin, func() {}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { f.Close() }, nil
}

// pieces yields what a reader has, as it comes.
func pieces(r io.Reader) func() ([]byte, error) {
	buf := make([]byte, sendChunk)
	return func() ([]byte, error) {
		n, err := r.Read(buf)
		if n > 0 {
			return bytes.Clone(buf[:n]), nil
		}
		return nil, err
	}
}

// maxEventLine bounds one value of a file of events, in bytes.
const maxEventLine = 16 << 20

// jsonLines yields the values of a file that has one on each line. Empty lines are left out.
func jsonLines(r io.Reader) func() ([]byte, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEventLine)
	number := 0
	return func() ([]byte, error) {
		for lines.Scan() {
			number++
			line := bytes.TrimSpace(lines.Bytes())
			if len(line) == 0 {
				continue
			}
			if !json.Valid(line) {
				return nil, fmt.Errorf("%w: line %d is not JSON: a stream of events takes one value on each line", errNotSent, number)
			}
			return bytes.Clone(line), nil
		}
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			return nil, fmt.Errorf("%w: line %d has more than %d bytes: split it", errNotSent, number+1, maxEventLine)
		case err != nil:
			return nil, fmt.Errorf("%w: line %d: %w", errNotSent, number+1, err)
		}
		return nil, io.EOF
	}
}

// nextPiece reads in a goroutine of its own, because standard input may never give anything: then the goroutine ends with
// the program, or with its next piece.
func nextPiece(ctx context.Context, next func() ([]byte, error)) ([]byte, error) {
	type result struct {
		piece []byte
		err   error
	}
	got := make(chan result, 1)
	go func() {
		piece, err := next()
		got <- result{piece, err}
	}()
	select {
	case r := <-got:
		return r.piece, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
