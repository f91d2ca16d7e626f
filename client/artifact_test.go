package client_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
)

func TestInputAndOutputFiles(t *testing.T) {
	w := newWorld(t)
	large := strings.Repeat("0123456789", 10_000)
	got := make(chan string, 10)
	w.provide("echo", wire.Free, func(j *job) {
		for _, p := range j.start.Task.Parts {
			switch {
			case p.File == nil:
				got <- p.PartID + " text"
			case p.File.Kind == wire.RefInline:
				b, err := p.File.Inline()
				got <- fmt.Sprintf("%s inline %s %d %v", p.PartID, p.File.FileName, len(b), err)
			default:
				body, _, err := j.link.OpenFile(j.ctx, p.File.Channel, p.File.FileID, p.File.FileName, j.start.WriteToken)
				if err != nil {
					j.t.Error(err)
					got <- "error"
					continue
				}
				b, err := io.ReadAll(body)
				body.Close()
				got <- fmt.Sprintf("%s file %s %d %v", p.PartID, p.File.FileName, len(b), err)
			}
		}
		j.artifact("../../etc/passwd", "traversal")
		j.artifact(`C:\windows\two ü.txt`, "windows")
		j.artifact("", "nameless")
		j.artifact("empty.bin", "")
		j.upload("big file.bin", large)
		j.artifact("same.tar.gz", "1")
		j.artifact("same.tar.gz", "2")
		j.artifact("..", "dots")
		j.end(wire.Completed)
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "large.txt")
	if err := os.WriteFile(path, []byte(large), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := w.client().Send(within(t), client.Message{Agent: "echo", Parts: []client.Part{
		client.JSON("request", map[string]int{"a": 1}),
		client.File("file", path),
		client.Bytes("file", "small.bin", []byte(strings.Repeat("x", 16<<10))),
		client.Bytes("file", "", nil),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"request text", "file file large.txt 100000 <nil>", "file inline small.bin 16384 <nil>", "file inline attachment 0 <nil>"} {
		if g := <-got; g != want {
			t.Errorf("the provider got %q, want %q", g, want)
		}
	}
	if _, err := s.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out", "deep")
	first, err := s.Save(within(t), out)
	if err != nil {
		t.Fatal(err)
	}
	names := func(paths []string) (out []string) {
		for _, p := range paths {
			out = append(out, filepath.Base(p))
		}
		return out
	}
	if d := cmp.Diff([]string{"passwd", "two ü.txt", "artifact-2", "empty.bin", "big file.bin", "same.tar.gz", "same.tar (2).gz", "artifact-7"}, names(first)); d != "" {
		t.Error(d)
	}
	for i, want := range []string{"traversal", "windows", "nameless", "", large, "1", "2", "dots"} {
		b, err := os.ReadFile(first[i])
		if err != nil || string(b) != want {
			t.Errorf("%s holds %d bytes, %v", first[i], len(b), err)
		}
		if filepath.Dir(first[i]) != out {
			t.Errorf("%s is outside", first[i])
		}
	}
	second, err := s.Save(within(t), out)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(second)[0]; got != "passwd (2)" {
		t.Errorf("saved again as %s", got)
	}
	for _, a := range s.Artifacts() {
		if d, err := s.Download(within(t), a); err != nil || int64(len(d.Data)) != a.Size || d.FileName != a.FileName || d.MIMEType != a.MIMEType {
			t.Errorf("%s: %d bytes, %v", a.FileName, len(d.Data), err)
		}
	}
	if _, err := s.Download(within(t), client.Artifact{Ref: wire.ArtifactRef{Kind: "other"}}); err == nil {
		t.Error("downloaded an unknown kind")
	}
	if _, err := s.Download(within(t), client.Artifact{Ref: wire.ArtifactRef{Kind: wire.RefFile, Channel: "u.x.y", FileID: "1", FileName: "x"}}); err == nil {
		t.Error("downloaded a file that is not ours")
	}
}

// Save must not follow a symbolic link out of the directory.
func TestSaveDoesNotFollowLinks(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", wire.Free, func(j *job) {
		j.artifact("trap", "content")
		j.end(wire.Completed)
	})
	s, err := w.client().Send(within(t), client.Message{Agent: "echo", Parts: text("x")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.Symlink(outside, filepath.Join(dir, "trap")); err != nil {
		t.Fatal(err)
	}
	paths, err := s.Save(within(t), dir)
	if _, statErr := os.Stat(outside); statErr == nil {
		t.Errorf("wrote through a link: %v, %v", paths, err)
	}
}
