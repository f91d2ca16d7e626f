package plug

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/internal/testutil"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// anybody owns every process.
type anybody struct{}

func (anybody) Owns(int) bool { return true }

// sizes is a host service that answers an artifact with the size of its messages.
type sizes struct {
	handlerv1.UnimplementedHostServiceServer
}

func (sizes) PublishArtifact(stream grpc.ClientStreamingServer[handlerv1.PublishArtifactRequest, handlerv1.PublishArtifactResponse]) error {
	size := 0
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return status.Errorf(codes.Aborted, "%d bytes", size)
		} else if err != nil {
			return err
		}
		size += len(m.GetChunk().GetData())
	}
}

// serveSizes serves it as the host service is served, with turns for so many bytes.
func serveSizes(t *testing.T, free int64) (socket string, q *turns) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	q = newTurns(free)
	server := grpc.NewServer(grpc.Creds(&hostCredentials{}), grpc.MaxRecvMsgSize(MaxMessage), grpc.InitialWindowSize(streamWindow), grpc.WaitForHandlers(true))
	handlerv1.RegisterHostServiceServer(server, sizes{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(newOwnListener(listener, anybody{}, os.Getuid(), &calls, q))
	}()
	t.Cleanup(func() { server.Stop(); <-served; q.close() })
	return socket, q
}

func (q *turns) state() (free int64, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.free, len(q.waiting)
}

// A handler that leaves messages unfinished has only so many of them opened, whatever it begins, and its others follow.
func TestUnfinishedMessagesTakeTurns(t *testing.T) {
	const calls, at = 20, maxLarge / MaxMessage
	socket, q := serveSizes(t, maxLarge)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		if _, err := conn.Write(b); err != nil {
			t.Error(err)
		}
	}
	var mu sync.Mutex
	opened := map[uint32]int64{} // how far, by call
	var order []uint32
	read := make(chan struct{})
	go func() {
		defer close(read)
		for head := make([]byte, frameHeader); ; {
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
			if _, err := io.ReadFull(conn, payload); err != nil {
				return
			}
			if call := binary.BigEndian.Uint32(head[5:]); head[3] == frameWindow && call != 0 {
				mu.Lock()
				opened[call] += int64(binary.BigEndian.Uint32(payload))
				order = append(order, call)
				mu.Unlock()
			}
		}
	}()
	defer func() { conn.Close(); <-read }()
	open := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(order)
	}
	write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	write(frame(4, 0, 0, 0)) // SETTINGS
	var head []byte
	for _, kv := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", handlerv1.HostService_PublishArtifact_FullMethodName},
		{":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		head = append(head, 0, byte(len(kv[0])))
		head = append(append(append(head, kv[0]...), byte(len(kv[1]))), kv[1]...)
	}
	const size = MaxMessage - 1<<10
	begin := binary.BigEndian.AppendUint32([]byte{0}, size)
	for n := range uint32(calls) {
		f := frame(frameCall, 4, 2*n+1, len(head))
		copy(f[frameHeader:], head)
		write(f)
		f = frame(frameData, 0, 2*n+1, messageHeader+100)
		copy(f[frameHeader:], begin)
		write(f)
	}
	settled := func(n int) func() bool {
		return func() bool { _, waiting := q.state(); return open() == n && waiting == calls-n }
	}
	testutil.Eventually(t, patience, "some messages are opened, and the others wait", settled(at))
	mu.Lock()
	for call, n := range opened {
		if n != size {
			t.Errorf("call %d is opened by %d", call, n)
		}
	}
	first := slices.Clone(order)
	mu.Unlock()

	// One that is complete, and one that is given up, make room for one each.
	for left := size - 100; left > 0; {
		n := min(left, 16<<10)
		write(frame(frameData, 0, first[0], n))
		left -= n
	}
	testutil.Eventually(t, patience, "a complete message makes room", settled(at+1))
	write(frame(frameReset, 0, first[1], 4))
	testutil.Eventually(t, patience, "one that is given up makes room", settled(at+2))
	// Padding is no message.
	pad := frame(frameData, flagPadded, first[2], 256)
	pad[frameHeader] = 255
	for range 100 {
		write(pad)
	}
	if free, _ := q.state(); free > MaxMessage {
		t.Errorf("%d bytes are free", free)
	}
	conn.Close()
	testutil.Eventually(t, patience, "a closed connection holds nothing", func() bool { free, waiting := q.state(); return free == maxLarge && waiting == 0 })
}

// Large messages that come all at once arrive, each as a whole, one after the other where there is room for one.
func TestLargeMessagesArrive(t *testing.T) {
	const room = 2 << 20
	socket, q := serveSizes(t, room)
	data := make([]byte, room-1<<10)
	var all sync.WaitGroup
	for range 2 {
		conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 3 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
				defer cancel()
				stream, err := handlerv1.NewHostServiceClient(conn).PublishArtifact(ctx)
				if err == nil {
					err = stream.Send(&handlerv1.PublishArtifactRequest{Chunk: &handlerv1.ArtifactChunk{Data: data}})
				}
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := stream.CloseAndRecv(); status.Convert(err).Message() != "2096128 bytes" {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	testutil.Eventually(t, patience, "nothing is held", func() bool { free, waiting := q.state(); return free == room && waiting == 0 })
}

// What a handler answers waits for its turn as well, also where it is encrypted.
func TestLargeAnswersTakeTurns(t *testing.T) {
	for _, mtls := range []bool{false, true} {
		r := newFixture(t)
		r.MTLS = mtls
		c := r.conn(t, "badhandler", "")
		others := &turn{size: maxLarge}
		if !c.turns.take(others) {
			t.Fatal("turns are taken already")
		}
		done := make(chan int, 1)
		go func() {
			p := newPort()
			err := give(t.Context(), c, request("t", "artifact 8000000"), p, Hooks{})
			if err != nil || len(p.artifacts) != 1 {
				t.Errorf("mtls %v: %v", mtls, err)
				done <- 0
				return
			}
			done <- len(p.artifacts[0].Data)
		}()
		testutil.Eventually(t, patience, "the answer waits", func() bool { _, waiting := c.turns.state(); return waiting == 1 })
		c.turns.end(others)
		if n := <-done; n != 8000000 {
			t.Errorf("mtls %v: %d bytes", mtls, n)
		}
		if free, waiting := c.turns.state(); free != maxLarge || waiting != 0 {
			t.Errorf("mtls %v: %d free, %d waiting", mtls, free, waiting)
		}
	}
}

// written is a connection that remembers what is written to it.
type written struct {
	net.Conn
	b bytes.Buffer
}

func (w *written) Write(b []byte) (int, error) { return w.b.Write(b) }

// However a connection is written, frames that wait are left out of it, all others stay as they are, and what waited comes
// between them.
func TestFramesThatWait(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all atomic.Int64
		q, conn := newTurns(0), &written{}
		w := newWireCalls(&all, q)
		w.received(make([]byte, http2Preface))
		for _, call := range []uint32{1, 3, 5} {
			w.received(frame(frameCall, 4, call, 7))
			m := frame(frameData, 0, call, messageHeader)
			copy(m[frameHeader:], []byte{0, 0, 255, 255, 255})
			w.received(m)
		}
		var in, want []byte
		held := map[uint32]int{}
		for range rapid.IntRange(1, 12).Draw(t, "frames") {
			call := rapid.SampledFrom([]uint32{0, 1, 3, 5, 7}).Draw(t, "call")
			f := frame(frameData, 0, call, rapid.IntRange(0, 300).Draw(t, "payload"))
			wait := false
			if rapid.Bool().Draw(t, "window") {
				size := rapid.SampledFrom([]uint32{1, streamWindow, streamWindow + 1, MaxMessage}).Draw(t, "size")
				f = append(frame(frameWindow, 0, call, 4)[:frameHeader], binary.BigEndian.AppendUint32(nil, size)...)
				wait = size > streamWindow && call > 0 && call < 7
			}
			in = append(in, f...)
			if wait {
				held[call]++ // a later one takes the place of one before
			} else {
				want = append(want, f...)
			}
		}
		for rest := in; len(rest) > 0; {
			n := min(rapid.IntRange(1, 100).Draw(t, "piece"), len(rest))
			if k, err := w.write(conn, rest[:n]); k != n || err != nil {
				t.Fatal(k, err)
			}
			rest = rest[n:]
		}
		if got := conn.b.Bytes(); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes became %d and not %d", len(in), len(got), len(want))
		}
		q.end(&turn{size: 3 * MaxMessage, has: true})
		q.opening.Wait()
		if got := conn.b.Len() - len(want); got != len(held)*windowFrame {
			t.Errorf("%d calls have waited, and %d bytes follow", len(held), got)
		}
		w.close()
		if free, waiting := q.state(); free != 3*MaxMessage || waiting != 0 {
			t.Errorf("%d free, %d waiting", free, waiting)
		}
	})
}

// What is due does not come into the middle of a frame.
func TestDueFramesWaitForTheEndOfOne(t *testing.T) {
	q, conn := newTurns(0), &written{}
	w := newWireCalls(new(atomic.Int64), q)
	w.received(slices.Concat(make([]byte, http2Preface), frame(frameCall, 4, 1, 7), frame(frameData, 0, 1, messageHeader-1)))
	w.received([]byte{}) // nothing
	m := frame(frameData, 0, 1, 1)
	m[frameHeader] = 9
	w.received(m)
	window := append(frame(frameWindow, 0, 1, 4)[:frameHeader], binary.BigEndian.AppendUint32(nil, MaxMessage)...)
	data := frame(frameData, 0, 1, 100)
	for _, b := range [][]byte{window, data[:50]} {
		if _, err := w.write(conn, b); err != nil {
			t.Fatal(err)
		}
	}
	q.end(&turn{size: maxLarge, has: true})
	q.opening.Wait()
	if !bytes.Equal(conn.b.Bytes(), data[:50]) {
		t.Errorf("%x within a frame", conn.b.Bytes())
	}
	if _, err := w.write(conn, data[50:]); err != nil {
		t.Fatal(err)
	}
	if want := slices.Concat(data, window); !bytes.Equal(conn.b.Bytes(), want) {
		t.Errorf("%x, and not %x", conn.b.Bytes(), want)
	}
	w.close()
}
