package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	l, err := net.ListenUnix(Network, &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: Network})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err := net.DialUnix(Network, nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.Close(); other.Close() })
	return NewConn(one), NewConn(other)
}

func TestMessagesStayApartAndCarryFiles(t *testing.T) {
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, r, w)
	if err := errors.Join(a.Send("one", w), a.Send("two")); err != nil {
		t.Fatal(err)
	}
	message, files, err := b.Receive()
	if err != nil || string(message) != `"one"` || len(files) != 1 {
		t.Fatalf("%s, %d files, %v", message, len(files), err)
	}
	if _, err := files[0].WriteString("through"); err != nil {
		t.Fatal(err)
	}
	CloseAll(files)
	got := make([]byte, 7)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "through" {
		t.Errorf("%q, %v", got, err)
	}
	if message, files, err = b.Receive(); err != nil || string(message) != `"two"` || len(files) != 0 {
		t.Errorf("%s, %d files, %v", message, len(files), err)
	}
	if pid, uid, err := b.Peer(); err != nil || pid != os.Getpid() || int(uid) != os.Getuid() {
		t.Errorf("process %d of user %d, %v", pid, uid, err)
	}
	a.Close()
	if _, _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestWhatIsTooMuch(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(strings.Repeat("x", MaxMessage)); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long message: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, r, w)
	many := make([]*os.File, StartFiles+3)
	for i := range many {
		many[i] = w
	}
	if err := a.Send("many", many...); err != nil {
		t.Fatal(err)
	}
	if _, files, err := b.Receive(); err == nil {
		t.Errorf("%d descriptors are taken", len(files))
		CloseAll(files)
	}
	// Nothing of them is left open: the pipe ends with ours.
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a descriptor was kept: %v", err)
	}
	if _, err := a.uc.Write(make([]byte, MaxMessage+10)); err != nil {
		t.Fatal(err)
	}
	if m, _, err := b.Receive(); err == nil {
		t.Errorf("%d bytes are taken", len(m))
	}
}
