package plug

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// The host service listens to its own process, with its token, about its own tasks.
func TestHostRefusesOthers(t *testing.T) {
	r := newFixture(t)
	running := map[string]bool{"elsewhere": true}
	r.OnAnotherProcess = func(id string) bool { return running[id] }
	a, b := r.conn(t, "badhandler", ""), r.conn(t, "badhandler", "")
	tests := []struct{ name, text, want string }{
		{"itself", "host", "OK: "},
		{"wrong token", "host token=wrong", "PermissionDenied: the metadata blocksd-host-token is not the token of this handler"},
		{"another process", "host socket=" + b.host.path, "PermissionDenied: the caller does not belong to the handler that this socket is for"},
		{"task of another process", "host task=elsewhere", `PermissionDenied: task "elsewhere" runs on another process`},
		{"ended task", "host task=gone", `NotFound: task "gone" does not run, or has ended`},
	}
	for _, tt := range tests {
		p, f := do(t, a, "t", tt.text)
		if f != nil {
			t.Errorf("%s: %+v", tt.name, f)
			continue
		}
		want := []string{tt.want}
		if tt.name == "itself" {
			want = []string{"x", tt.want}
		}
		if d := cmp.Diff(want, p.texts()); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
	// this test's own process is a stranger too
	conn, err := grpc.NewClient("unix:"+a.host.path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := handlerv1.NewHostServiceClient(conn).DownloadInput(metadata.AppendToOutgoingContext(t.Context(), handlerv1.HostTokenKey, "x"), &handlerv1.DownloadInputRequest{TaskId: "t"})
	if err == nil {
		_, err = stream.Recv()
	}
	if got := status.Convert(err).Message(); !strings.Contains(got, "does not belong") {
		t.Errorf("a stranger hears %q", got)
	}
}

func TestDownload(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	content := strings.Repeat("0123456789", 100_000)
	text := "download file"
	for _, want := range []string{content, ""} {
		task := &wire.Task{ID: "t", Parts: []wire.Part{
			{PartID: "request", Text: &text},
			{PartID: "file", File: &wire.ArtifactRef{FileName: "announced", MIMEType: "a/b", Size: 1}},
			{PartID: "broken", File: &wire.ArtifactRef{}},
		}}
		p := newPort()
		p.inputs = map[int]dispatch.Input{1: {Name: "ü.txt", MIMEType: "text/plain", Size: int64(len(want)), Body: body(want)}}
		if err := give(t.Context(), c, task, p, Hooks{}); err != nil {
			t.Fatal(err)
		}
		if len(p.artifacts) != 1 || string(p.artifacts[0].Data) != want {
			t.Fatalf("%d artifacts, or another content", len(p.artifacts))
		}
		p.artifacts[0].Data = nil // a million bytes take the comparison half a minute
		if d := cmp.Diff([]wire.Artifact{{FileName: "ü.txt", MIMEType: "text/plain"}}, p.artifacts); d != "" && len(want) > 0 {
			t.Error(d)
		}
	}
	text = "download broken"
	task := &wire.Task{ID: "t", Parts: []wire.Part{{PartID: "request", Text: &text}, {PartID: "broken", File: &wire.ArtifactRef{}}}}
	err := give(t.Context(), c, task, newPort(), Hooks{})
	var f *dispatch.TaskFailure
	if !errors.As(err, &f) || f.Public != "download input number 2: input 1 cannot be read: part 1 has no file" {
		t.Errorf("error %v", err)
	}
}

func TestEnvironmentIsScrubbed(t *testing.T) {
	r := newFixture(t)
	for _, kv := range []string{"BLOCKS_API_KEY=bk_secret", "BLOCKSD_SOCKET=/x", "BLOCKSD_SANDBOX_TOKEN=t", "EXTRA=yes", "UNRELATED=no"} {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	r.Environment = launch.Environment(os.Environ(), []string{"EXTRA", "BLOCKS_API_KEY"})
	p, f := do(t, r.conn(t, "badhandler", ""), "t", "environment")
	if f != nil {
		t.Fatal(f)
	}
	allowed := map[string]bool{
		"PATH": true, "HOME": true, "LANG": true, "TZ": true, "TMPDIR": true, "SSL_CERT_FILE": true, "SSL_CERT_DIR": true, "EXTRA": true,
		"BLOCKS_HANDLER_COOKIE": true, "BLOCKSD_HOST_SOCKET": true, "BLOCKSD_HOST_TOKEN": true, "PWD": true,
		"PLUGIN_MIN_PORT": true, "PLUGIN_MAX_PORT": true, "PLUGIN_PROTOCOL_VERSIONS": true, "PLUGIN_UNIX_SOCKET_DIR": true,
	}
	seen := map[string]bool{}
	for _, kv := range strings.Split(p.texts()[0], "\n") {
		name, _, _ := strings.Cut(kv, "=")
		if !allowed[name] || seen[name] {
			t.Errorf("variable %s", kv)
		}
		seen[name] = true
	}
	if !seen["PATH"] || !seen["EXTRA"] || !seen["BLOCKSD_HOST_TOKEN"] {
		t.Errorf("variables missing: %v", seen)
	}
}

func TestAssemblerCeiling(t *testing.T) {
	a := assembler{limit: 10}
	info := &handlerv1.ArtifactInfo{OutputId: "o"}
	if _, err := a.add(&handlerv1.ArtifactChunk{Info: info, Data: make([]byte, 10)}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.add(&handlerv1.ArtifactChunk{Data: []byte{1}, Last: true}); err == nil {
		t.Error("eleven bytes accepted")
	}
	a = assembler{limit: 10}
	if _, err := a.add(nil); err == nil {
		t.Error("a chunk that is missing accepted")
	}
}

// What one message brings is counted until it is published, like what comes in pieces: uploads of it all stay in memory.
func TestLargeArtifactsOfOneChunkAreCounted(t *testing.T) {
	spool := &Spool{free: func() int64 { return 0 }} // they need no disk
	const limit = 20 << 20
	chunk := &handlerv1.ArtifactChunk{Info: &handlerv1.ArtifactInfo{OutputId: "o"}, Data: make([]byte, MaxMessage), Last: true}
	var all []*assembler
	for {
		a := &assembler{limit: limit, handler: spool}
		artifact, err := a.add(chunk)
		if err != nil {
			if !strings.Contains(err.Error(), "the most that they may have here") {
				t.Error(err)
			}
			a.close()
			break
		}
		if all = append(all, a); len(artifact.Data) != MaxMessage || len(all) > (spoolBytes+limit)/MaxMessage {
			t.Fatalf("%d artifacts are taken, the last of %d bytes", len(all), len(artifact.Data))
		}
	}
	if len(all) != (spoolBytes+limit)/MaxMessage {
		t.Errorf("%d artifacts are taken", len(all))
	}
	if _, err := all[0].add(chunk); err != nil { // it takes the place of the one before
		t.Error(err)
	}
	for _, a := range all {
		a.close()
	}
	if n := spool.used.Load(); n != 0 {
		t.Errorf("%d bytes are counted afterwards", n)
	}
}

// TestAssemblerSpools: a large artifact is in a file without a name, can be read more than once, and leaves nothing behind.
func TestAssemblerSpools(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	a := assembler{limit: 10 << 20}
	defer a.close()
	for round := range 2 {
		var want []byte
		for i := range 5 {
			chunk := &handlerv1.ArtifactChunk{Data: bytes.Repeat([]byte{byte('a' + i + round)}, 300_000), Last: i == 4}
			if i == 0 {
				chunk.Info = &handlerv1.ArtifactInfo{OutputId: "o", FileName: "f"}
			}
			want = append(want, chunk.Data...)
			artifact, err := a.add(chunk)
			if err != nil || (artifact != nil) != chunk.Last {
				t.Fatal(artifact, err)
			}
			if artifact == nil {
				continue
			}
			if artifact.Data != nil || artifact.Length() != int64(len(want)) || artifact.OutputID != "o" {
				t.Errorf("%d bytes in memory, length %d", len(artifact.Data), artifact.Length())
			}
			for range 2 {
				r, err := artifact.Reader()
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, want) || r.Close() != nil {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			}
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "missing"))
	b := assembler{limit: 10 << 20}
	defer b.close()
	if _, err := b.add(&handlerv1.ArtifactChunk{Info: &handlerv1.ArtifactInfo{}, Data: make([]byte, 2*spoolAbove)}); err == nil {
		t.Error("there is no room for the file, and no error")
	}
}

func TestAssignmentIsOverWhenItEnds(t *testing.T) {
	a := newAssignment(newPort(), func() {})
	entered, left := make(chan struct{}), make(chan error, 1)
	go func() {
		left <- a.use(context.Background(), func(ctx context.Context, _ dispatch.TaskPort) error {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-entered
	a.end()
	if err := <-left; !errors.Is(err, errTaskEnded) {
		t.Errorf("use ended with %v", err)
	}
	asked, leave := context.WithCancel(context.Background())
	err := newAssignment(newPort(), func() {}).use(asked, func(ctx context.Context, _ dispatch.TaskPort) error {
		leave()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("whoever asked left, and use ended with %v", err)
	}
	if err := a.use(context.Background(), func(context.Context, dispatch.TaskPort) error { return nil }); !errors.Is(err, errTaskEnded) {
		t.Errorf("use after the end: %v", err)
	}
}

// The handler's answer and its calls of the host service are two ways; what was sent first must have its effect first.
func TestAssignmentKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAssignment(newPort(), func() {})
		turn := make(chan error, 1)
		go func() { turn <- a.after(t.Context(), 2) }()
		for heard := range int64(2) {
			a.hear(heard)
			synctest.Wait()
			select {
			case err := <-turn:
				t.Fatalf("after %d messages of 2 it was its turn: %v", heard, err)
			default:
			}
		}
		a.hear(2)
		if err := <-turn; err != nil {
			t.Error(err)
		}
		if err := a.after(t.Context(), 1); err != nil {
			t.Error(err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if err := a.after(ended, 3); !errors.Is(err, context.Canceled) {
			t.Errorf("a promise that is not kept ended with %v", err)
		}
	})
}
