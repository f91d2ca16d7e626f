package pluginsdk

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// outputHost is the daemon's side of a call whose task has ended with artifacts. The third one breaks off while broken is
// true.
type outputHost struct {
	handlerv1.UnimplementedHostServiceServer
	broken bool
}

func (h *outputHost) CallAgent(s grpc.BidiStreamingServer[handlerv1.CallAgentRequest, handlerv1.CallAgentResponse]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	err := s.Send(&handlerv1.CallAgentResponse{Submitted: &handlerv1.SubmittedCall{TaskId: "c"}})
	for _, event := range []string{
		`{"type":"artifact","artifactRef":{"kind":"inline","fileName":"../../a.txt","mimeType":"text/plain","size":4}}`,
		`{"type":"artifact"}`, // of nothing
		`{"type":"artifact","artifactRef":{"kind":"inline","fileName":"C:\\a.txt","mimeType":"text/plain","size":4}}`,
		`{"type":"artifact","artifactRef":{"kind":"inline","mimeType":"application/json","size":4}}`,
		`{"type":"terminal","state":"completed"}`,
	} {
		err = errors.Join(err, s.Send(&handlerv1.CallAgentResponse{EventJson: []byte(event)}))
	}
	return err
}

func (h *outputHost) DownloadCallArtifact(r *handlerv1.DownloadCallArtifactRequest, s grpc.ServerStreamingServer[handlerv1.DownloadCallArtifactResponse]) error {
	i := r.GetArtifactIndex()
	for _, piece := range []string{"of ", string('0' + i)} {
		if err := s.Send(&handlerv1.DownloadCallArtifactResponse{Data: []byte(piece)}); err != nil {
			return err
		}
	}
	if h.broken && i == 2 {
		return status.Error(codes.Unavailable, "its content does not have the hash that was announced")
	}
	return nil
}

// TestSave: names are made safe and kept apart, a link is not followed, and a download that fails leaves nothing.
func TestSave(t *testing.T) {
	h := &outputHost{broken: true}
	s, err := hostedTask(t, h).Call(t.Context(), Message{Agent: "other"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	above := t.TempDir()
	dir := filepath.Join(above, "deep", "out")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(above, "victim")
	if err := os.Symlink(victim, filepath.Join(dir, "a.txt")); err != nil {
		t.Fatal(err)
	}
	holds := func(paths []string, want ...string) {
		t.Helper()
		var got []string
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil || filepath.Dir(path) != dir {
				t.Errorf("%s: %v", path, err)
			}
			got = append(got, filepath.Base(path)+" "+string(b))
		}
		if !slices.Equal(got, want) {
			t.Errorf("saved %q, want %q", got, want)
		}
	}
	paths, err := s.Save(t.Context(), dir)
	wrong := "save artifacts of task c in " + dir + `: download artifact "" of task c: its content does not have the hash that was announced`
	if err == nil || err.Error() != wrong {
		t.Errorf("%v, want %s", err, wrong)
	}
	holds(paths, "a (2).txt of 0", "a (3).txt of 1")
	h.broken = false
	paths, err = s.Save(t.Context(), dir)
	if err != nil {
		t.Error(err)
	}
	holds(paths, "a (4).txt of 0", "a (5).txt of 1", "artifact-2.json of 2")
	all, err := os.ReadDir(dir)
	if _, followed := os.Lstat(victim); err != nil || len(all) != 6 || followed == nil {
		t.Errorf("the directory has %v, %v; %v", all, err, followed)
	}
	if _, err := s.Save(t.Context(), filepath.Join(paths[0], "x")); err == nil || !strings.HasSuffix(err.Error(), "not a directory") {
		t.Errorf("in a file: %v", err)
	}
}
