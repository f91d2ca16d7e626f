package client_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// artifactOf makes a reference with content of some size and hash, whatever is true.
func inline(data string, size int64, hash string) client.Artifact {
	ref := wire.InlineRef(wire.Artifact{FileName: "a.txt", MIMEType: "text/plain", Data: []byte(data)})
	return client.Artifact{FileName: "a.txt", MIMEType: "text/plain", Size: size, Hash: hash, Ref: ref}
}

func sha(data string) string {
	sum := sha256.Sum256([]byte(data))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// C47: what arrives is what was announced, or an error.
func TestSizeAndHash(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	for _, tt := range []struct {
		a  client.Artifact
		ok bool
	}{
		{inline("hello", 5, ""), true}, {inline("hello", 0, ""), true}, {inline("", 0, sha("")), true},
		{inline("hello", 5, sha("hello")), true}, {inline("hello", 5, strings.ToUpper(sha("hello"))), true},
		{inline("hello", 5, "md4:00"), true}, {inline("hello", 5, "nonsense"), true}, // cannot be checked
		{inline("hello", 4, ""), false}, {inline("hello", 6, ""), false}, {inline("", 1, ""), false},
		{inline("hello", 5, sha("hallo")), false},
	} {
		d, err := s.Download(within(t), tt.a)
		if (err == nil) != tt.ok || err == nil && d.FileName != "a.txt" {
			t.Errorf("size %d, hash %q: %+v, %v", tt.a.Size, tt.a.Hash, d, err)
		}
		if err != nil && !isA[*client.DownloadError](err) {
			t.Errorf("%v", err)
		}
	}
	bad := "no base64!"
	for _, ref := range []wire.ArtifactRef{
		{Kind: "other"}, {Kind: wire.RefInline, Size: 3}, {Kind: wire.RefInline, Data: &bad}, {Kind: wire.RefFile}, {Kind: wire.RefFile, Channel: "u.x.y", FileID: "1", FileName: "x"},
	} {
		if _, err := s.Download(within(t), client.Artifact{Ref: ref}); !isA[*client.DownloadError](err) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
}

// upload makes a task with one uploaded artifact, and returns its session.
func (w *world) uploaded(content string) (*client.Session, client.Artifact) {
	w.t.Helper()
	w.provide("echo", client.Free, func(j *job) {
		j.upload("big.bin", content)
		j.end(client.Completed)
	})
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	if _, err := s.Wait(within(w.t)); err != nil {
		w.t.Fatal(err)
	}
	all := s.Artifacts()
	if len(all) != 1 {
		w.t.Fatalf("%d artifacts", len(all))
	}
	return s, all[0]
}

// content of which every part differs.
func varied(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strconv.Itoa(i) + " ")
	}
	return b.String()[:n]
}

// A transfer that breaks off goes on where it stood.
func TestDownloadIsResumed(t *testing.T) {
	w := newWorld(t)
	content := varied(600_000)
	s, a := w.uploaded(content)
	breaks := 0
	w.spy.cut = func(r *http.Request) bool {
		breaks++
		return breaks <= 6 && !strings.HasPrefix(r.URL.Path, "/api/") // the way to the file and the file
	}
	d, err := s.Download(within(t), a)
	if err != nil || d.Data == nil || string(d.Data) != content {
		t.Fatalf("%d bytes, %v", len(d.Data), err)
	}
	var from []string
	for _, r := range w.spy.find("/v1/files/", "") {
		from = append(from, r.Header.Get("Range"))
	}
	if len(from) != 4 || from[0] != "" || !strings.HasPrefix(from[3], "bytes=") {
		t.Errorf("%q", from)
	}
}

// C48: a download that fails is typed, and leaves nothing behind.
func TestDownloadFails(t *testing.T) {
	w := newWorld(t)
	s, a := w.uploaded(varied(300_000))
	dir := t.TempDir()
	w.fault(fault.Rule{Endpoint: "files", Status: http.StatusNotFound})
	_, err := s.Save(within(t), dir)
	if e, ok := errors.AsType[*client.DownloadError](err); !ok || e.Status != http.StatusNotFound || e.FileName != "big.bin" || e.TaskID != s.TaskID() {
		t.Errorf("%v", err)
	}
	w.sb.Faults().Clear()
	w.fault(fault.Rule{Path: "/blob", Action: fault.Cut, CutAfter: 1})
	w.fault(fault.Rule{Endpoint: "files", Action: fault.Cut, CutAfter: 1})
	ctx, cancel := context.WithCancel(within(t))
	r, err := s.Open(ctx, a)
	if err == nil {
		cancel()
		_, err = io.ReadAll(r)
		r.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	cancel()
	w.sb.Faults().Clear()
	w.spy.cut = func(r *http.Request) bool { return !strings.HasPrefix(r.URL.Path, "/api/") }
	if _, err := s.Save(within(t), dir); err == nil {
		t.Error("saved a part")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v left behind, %v", entries, err)
	}
	w.spy.cut = nil
	if paths, err := s.Save(within(t), dir); err != nil || len(paths) != 1 {
		t.Errorf("%q, %v", paths, err)
	}
}

// C47: names are made safe and kept apart; nothing is overwritten.
func TestSave(t *testing.T) {
	w := newWorld(t)
	names := []string{"../../etc/passwd", `C:\windows\x.txt`, ".bashrc", "..", "", "same.tar.gz", "same.tar.gz", "/abs/olute", "a\x1b[31mb", "dir/"}
	w.provide("echo", client.Free, func(j *job) {
		for i, n := range names {
			j.artifact(n, fmt.Sprint(i))
		}
		j.artifact("empty", "")
		j.end(client.Completed)
	})
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	if _, err := s.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "deep", "out")
	for _, again := range []bool{false, true} {
		paths, err := s.Save(within(t), dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, p := range paths {
			b, err := os.ReadFile(p)
			want := fmt.Sprint(i)
			if i == len(names) {
				want = ""
			}
			if err != nil || string(b) != want || filepath.Dir(p) != dir {
				t.Errorf("%s holds %q, %v", p, b, err)
			}
			got = append(got, filepath.Base(p))
		}
		want := []string{"passwd", "x.txt", "bashrc", "artifact-3", "artifact-4", "same.tar.gz", "same.tar (2).gz", "olute", "a[31mb", "artifact-9", "empty"}
		if again {
			want = []string{"passwd (2)", "x (2).txt", "bashrc (2)", "artifact-3 (2)", "artifact-4 (2)", "same.tar (3).gz", "same.tar (4).gz", "olute (2)", "a[31mb (2)", "artifact-9 (2)", "empty (2)"}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(filepath.Dir(dir)))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	// What the task has published so far, while it runs.
	if _, err := os.Lstat(filepath.Join(dir, ".bashrc")); err == nil {
		t.Error("a dotfile")
	}
}

// What has been seen so far is a snapshot, also where nobody follows the task.
func TestArtifactsSoFar(t *testing.T) {
	w := newWorld(t)
	published, goOn := make(chan struct{}), make(chan struct{})
	w.provide("echo", client.Free, func(j *job) {
		j.artifact("one", "1")
		close(published)
		j.await(goOn)
		j.artifact("two", "2")
		j.end(client.Completed)
	})
	c := w.client()
	s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
	<-published
	if n := len(s.Artifacts()); n != 1 {
		t.Errorf("%d artifacts", n)
	}
	if paths, err := s.Save(within(t), t.TempDir()); err != nil || len(paths) != 1 {
		t.Errorf("%q, %v", paths, err)
	}
	if n := len(w.spy.find("/v2/subscribe", "")); n != 0 {
		t.Errorf("subscribed %d times", n)
	}
	close(goOn)
	other := w.connect(c, s.TaskID())
	if _, err := other.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*client.Session{s, other} {
		if n := len(s.Artifacts()); n != 2 {
			t.Errorf("%d artifacts", n)
		}
	}
	s.Close()
	if d, err := s.Download(within(t), s.Artifacts()[1]); err != nil || string(d.Data) != "2" {
		t.Errorf("%+v, %v", d, err)
	}
}

// A part that a program has left behind is removed; one that is being written is not touched.
func TestAbandonedParts(t *testing.T) {
	w := newWorld(t)
	content := varied(100_000)
	s, _ := w.uploaded(content)
	dir := t.TempDir()
	part := filepath.Join(dir, "big.bin.blocksd-part")
	if err := os.WriteFile(part, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	var during []string
	var other error
	saved := make(chan []string, 1)
	first := true
	progress := client.SaveProgress(func(client.Artifact, int64) {
		if !first {
			return
		}
		first = false
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			during = append(during, e.Name())
		}
		var paths []string // somebody else saves the same meanwhile
		paths, other = s.Save(within(t), dir)
		saved <- paths
	})
	paths, err := s.Save(within(t), dir, progress)
	if err != nil || other != nil {
		t.Fatal(err, other)
	}
	if d := cmp.Diff([]string{"big.bin.blocksd-part"}, during); d != "" {
		t.Error(d)
	}
	for _, p := range append(paths, <-saved...) {
		if b, err := os.ReadFile(p); err != nil || string(b) != content {
			t.Errorf("%s: %d bytes, %v", p, len(b), err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}
