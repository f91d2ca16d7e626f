package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A network of dev that stands still for a moment, here with a full queue, is found all the same: without it the command would
// say that there is no key, or send a task to the network of a login.
func TestBusyDevIsFound(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	for full := false; !full; {
		c, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if full = err != nil; !full {
			defer c.Close()
		}
	}
	home := t.TempDir()
	dir := filepath.Join(home, ".local", "state", "blocksd", "dev")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	vars := fmt.Sprintf("BLOCKS_API_KEY='k'\nBLOCKS_CDM_URL='http://127.0.0.1:1/cdm'\nBLOCKSD_PUBNUB_ORIGIN='%s'\n", address)
	if err := os.WriteFile(filepath.Join(dir, devEnvFile), []byte(vars), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	time.AfterFunc(500*time.Millisecond, func() { // the kernel asks again a second after it was turned away
		defer close(ended)
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Close()
		}
	})
	r := runCLI(t, []string{"HOME=" + home}, Interrupts{}, "calls")
	if want := "using the network of blocksd dev at " + address + "\n"; !strings.HasPrefix(r.stderr, want) {
		t.Errorf("it says %q, want %q first", r.stderr, want)
	}
	l.Close()
	<-ended
}
