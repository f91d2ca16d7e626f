package pluginsdk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 3 * time.Minute

// listen serves on a Unix socket until the test ends.
func listen(t *testing.T, register func(*grpc.Server)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-ended })
	return socket
}

func daemon(t *testing.T, h Handler, ho *host) handlerv1.HandlerServiceClient {
	t.Helper()
	if ho == nil {
		ho = &host{}
	}
	socket := listen(t, func(s *grpc.Server) { handlerv1.RegisterHandlerServiceServer(s, newService(h, ho)) })
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return handlerv1.NewHandlerServiceClient(conn)
}

func task(id string, parts ...*handlerv1.Part) *handlerv1.StartTaskRequest {
	return &handlerv1.StartTaskRequest{Task: &handlerv1.Task{TaskId: id, Parts: parts}}
}

func textPart(id, text string) *handlerv1.Part { return &handlerv1.Part{PartId: id, Text: &text} }

// answers runs a task and writes down what came, in order.
func answers(t *testing.T, c handlerv1.HandlerServiceClient, r *handlerv1.StartTaskRequest) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := c.StartTask(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return all
		}
		if err != nil {
			return append(all, "broken: "+status.Code(err).String())
		}
		switch e := m.GetEvent().(type) {
		case *handlerv1.StartTaskResponse_Status:
			all = append(all, "status "+e.Status)
		case *handlerv1.StartTaskResponse_Artifact:
			all = append(all, "artifact "+e.Artifact.GetInfo().GetMimeType()+" "+string(e.Artifact.GetData()))
		case *handlerv1.StartTaskResponse_Result:
			all = append(all, "result")
		case *handlerv1.StartTaskResponse_Error:
			all = append(all, "error "+e.Error.GetPublicMessage())
			if private, _, _ := strings.Cut(e.Error.GetPrivateMessage(), "\n"); private != "" {
				all = append(all, "private "+private)
			}
		}
	}
}

func TestOutcomes(t *testing.T) {
	boom := errors.New("database password wrong")
	tests := []struct {
		name string
		run  func(context.Context, *Task) error
		want []string
	}{
		{"success", func(_ context.Context, t *Task) error {
			t.Status("working")
			text, _ := t.Text("request")
			return t.Send(Text("got " + text))
		}, []string{"status working", "artifact text/plain got x", "result"}},
		{"error", func(context.Context, *Task) error { return errors.New("no such city") }, []string{"error no such city"}},
		{"no text", func(context.Context, *Task) error { return errors.New("") }, []string{"error The handler failed with an error without a text (*errors.errorString)."}},
		{"private", func(context.Context, *Task) error { return Private("Try later.", boom) },
			[]string{"error Try later.", "private Try later: database password wrong"}},
		{"panic", func(context.Context, *Task) error { panic("oh") }, []string{"error " + panicText, "private " + strings.TrimSuffix(panicText, ".") + ": panic: oh"}},
		{"bug", func(_ context.Context, t *Task) error { t.Parts[7].ID = ""; return nil },
			[]string{"error " + panicText, "private " + strings.TrimSuffix(panicText, ".") + ": panic: runtime error: index out of range [7] with length 1"}},
		{"long", func(context.Context, *Task) error { return errors.New(strings.Repeat("ü", maxText)) },
			[]string{"error " + strings.Repeat("ü", (maxText-3)/2) + "…"}},
		{"missing input", func(_ context.Context, t *Task) error { return t.JSON("other", nil) }, []string{`error the input "other" is missing`}},
		{"bad input", func(_ context.Context, t *Task) error { var v int; return t.JSON("request", &v) },
			[]string{`error the input "request" is not the JSON document that was expected: invalid character 'x' looking for beginning of value`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := daemon(t, Handler{Run: tt.run}, nil)
			if d := cmp.Diff(tt.want, answers(t, c, task("t", textPart("request", "x")))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	reasons := make(chan error, 1)
	started := make(chan struct{}, 1)
	c := daemon(t, Handler{Run: func(ctx context.Context, _ *Task) error {
		started <- struct{}{}
		<-ctx.Done()
		reasons <- context.Cause(ctx)
		return ctx.Err()
	}}, nil)
	cancel := func(id string) {
		if _, err := c.CancelTask(t.Context(), &handlerv1.CancelTaskRequest{TaskId: id, Reason: handlerv1.CancelReason_CANCEL_REASON_DRAIN}); err != nil {
			t.Error(err)
		}
	}
	got := make(chan []string, 1)
	go func() { got <- answers(t, c, task("t")) }()
	<-started
	cancel("t")
	var why *Canceled
	if err := <-reasons; !errors.As(err, &why) || why.Reason != Drain {
		t.Errorf("cause %v", err)
	}
	if d := cmp.Diff([]string{"error the task was asked to end (drain)"}, <-got); d != "" {
		t.Error(d)
	}
	cancel("t") // after the end: harmless

	// before the start: the cancellation overtook the task, also where another one ends in between
	cancel("early")
	for _, id := range []string{"other", "early"} {
		if id == "other" {
			cancel(id)
		}
		answers(t, c, task(id))
		<-started
		if err := <-reasons; !errors.As(err, &why) || why.Reason != Drain {
			t.Errorf("%s: cause %v", id, err)
		}
	}

	// the daemon ends the call
	ctx, end := context.WithCancel(t.Context())
	if _, err := c.StartTask(ctx, task("u")); err != nil {
		t.Fatal(err)
	}
	<-started
	end()
	if err := <-reasons; !errors.As(err, &why) || why.Reason != Ended {
		t.Errorf("cause %v", err)
	}
}

func TestSameTaskTwice(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	c := daemon(t, Handler{Run: func(context.Context, *Task) error { close(started); <-release; return nil }}, nil)
	first := make(chan []string, 1)
	go func() { first <- answers(t, c, task("t")) }()
	<-started
	if d := cmp.Diff([]string{"broken: AlreadyExists"}, answers(t, c, task("t"))); d != "" {
		t.Error(d)
	}
	close(release)
	if d := cmp.Diff([]string{"result"}, <-first); d != "" {
		t.Error(d)
	}
}

func TestTaskAfterItsEnd(t *testing.T) {
	var kept *Task
	c := daemon(t, Handler{Run: func(_ context.Context, task *Task) error { kept = task; return nil }}, nil)
	answers(t, c, task("t"))
	kept.Status("late")
	if err := kept.Send(Text("late")); !errors.Is(err, ErrTaskEnded) {
		t.Errorf("error %v", err)
	}
}

func TestChunks(t *testing.T) {
	for size, want := range map[int]int{0: 1, 1: 1, chunkSize: 1, chunkSize + 1: 2, 3 * chunkSize: 3} {
		data := bytes.Repeat([]byte("x"), size)
		for name, a := range map[string]Artifact{"data": {Data: data, FileName: "f"}, "body": {Body: io.MultiReader(bytes.NewReader(data)), FileName: "f"}} {
			var got []byte
			n := 0
			err := a.chunks(func(c *handlerv1.ArtifactChunk) error {
				if (c.GetInfo() != nil) != (n == 0) || c.GetLast() != (n == want-1) {
					t.Errorf("%s of %d: chunk %d has info %v, last %v", name, size, n, c.GetInfo(), c.GetLast())
				}
				n++
				got = append(got, c.GetData()...)
				return nil
			})
			if err != nil || n != want || !bytes.Equal(got, data) {
				t.Errorf("%s of %d: %d chunks, %d bytes, %v", name, size, n, len(got), err)
			}
		}
	}
	broken := Artifact{Body: io.MultiReader(strings.NewReader("x"), &failing{})}
	if err := broken.chunks(func(*handlerv1.ArtifactChunk) error { return nil }); err == nil {
		t.Error("a reader that fails goes unnoticed")
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errors.New("unreadable") }

// fakeHost is the daemon's side of the host service.
type fakeHost struct {
	handlerv1.UnimplementedHostServiceServer
	token    string
	received *handlerv1.PublishArtifactRequest
}

func (h *fakeHost) DownloadInput(r *handlerv1.DownloadInputRequest, s grpc.ServerStreamingServer[handlerv1.DownloadInputResponse]) error {
	if got := metadata.ValueFromIncomingContext(s.Context(), handlerv1.HostTokenKey); len(got) != 1 || got[0] != h.token {
		return status.Error(codes.PermissionDenied, "wrong token")
	}
	_ = s.Send(&handlerv1.DownloadInputResponse{File: &handlerv1.File{Name: "a.txt", MimeType: "text/plain", Size: 6}, Data: []byte("abc")})
	_ = s.Send(&handlerv1.DownloadInputResponse{Data: []byte("def")})
	if r.GetPartIndex() == 2 {
		return status.Error(codes.Unavailable, "the download broke off")
	}
	return nil
}

func (h *fakeHost) PublishArtifact(s grpc.ClientStreamingServer[handlerv1.PublishArtifactRequest, handlerv1.PublishArtifactResponse]) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	if h.received = m; m.GetChunk().GetInfo().GetFileName() == "refused" {
		return status.Error(codes.Unavailable, "the network is away")
	}
	return s.SendAndClose(&handlerv1.PublishArtifactResponse{})
}

func TestHost(t *testing.T) {
	fake := &fakeHost{token: "secret"}
	socket := listen(t, func(s *grpc.Server) { handlerv1.RegisterHostServiceServer(s, fake) })
	ho := &host{socket: socket, token: "secret"}
	client, err := ho.dial()
	if err != nil || client == nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ho.conn.Close() })
	c := daemon(t, Handler{Run: func(ctx context.Context, task *Task) error {
		f, err := task.File(ctx, "file")
		if err != nil {
			return err
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		if err := task.Publish(ctx, Artifact{FileName: "ok", Data: data}); err != nil {
			return err
		}
		if _, err := task.File(ctx, "none"); err == nil {
			return errors.New("a file that is not there was opened")
		}
		half, err := task.FileAt(ctx, 2)
		if err != nil {
			return err
		}
		defer half.Close()
		if _, err := io.ReadAll(half); err == nil || err.Error() != `download input "a.txt": the download broke off` {
			return errors.New("half a file was taken for a whole one")
		}
		task.Status("before")
		return task.Publish(ctx, Artifact{FileName: "refused"})
	}}, ho)
	file := &handlerv1.File{Name: "announced"}
	got := answers(t, c, task("t", textPart("request", "x"), &handlerv1.Part{PartId: "file", File: file}, &handlerv1.Part{PartId: "half", File: file}))
	if d := cmp.Diff([]string{"status before", "error publish an artifact: the network is away"}, got); d != "" {
		t.Error(d)
	}
	if r := fake.received; r.GetTaskId() != "t" || r.GetAfterResponses() != 1 {
		t.Errorf("published for %q after %d responses, not after the status", r.GetTaskId(), r.GetAfterResponses())
	}
	if err := (&host{}).publish(t.Context(), "t", 0, Text("x")); err == nil {
		t.Error("published without a host")
	}
}

func TestServeByHand(t *testing.T) {
	run := func(context.Context, *Task) error { return nil }
	for want, h := range map[string]Handler{
		"the Handler given to pluginsdk.Serve has no Run function":                                                                                     {},
		"agent card number 1 given to pluginsdk.Serve is not JSON":                                                                                     {Run: run, Cards: [][]byte{[]byte("{")}},
		`echo is a Blocks handler and does nothing by itself: put it into a plugins directory of blocksd, or try it with "blocksd dev --plugins bin".`: {Run: run},
	} {
		if got := serve(h, "bin/echo"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
