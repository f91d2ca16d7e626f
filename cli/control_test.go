package cli

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// No name is what is not UTF-8; gRPC would refuse to send it.
func TestNamesAreUTF8(t *testing.T) {
	for _, command := range []string{"cancel", "restart", "logs", "handler rollback", "handler pin", "call"} {
		r := runCLI(t, nil, Interrupts{}, append(strings.Fields(command), "caf\xe9")...)
		want := "blocksd: " + command + `: the argument "caf\xe9" is not valid UTF-8, which every name is` + "\n"
		if r.code != exitUsage || r.stderr != want {
			t.Errorf("%s: %+v", command, r)
		}
	}
}

// What a flag has to hold is not replaced by something else when it holds nothing sensible.
func TestEmptyAndOddFlags(t *testing.T) {
	for args, want := range map[string]string{
		"handler pin echo --sha256 %": `--sha256 must be 64 hexadecimal digits, not ""`, // an unset variable of a script
		"calls --agent caf\xe9":       `calls: --agent "caf\xe9" is not valid UTF-8, which every name is`,
	} {
		words := strings.Fields(args)
		if words[len(words)-1] == "%" {
			words[len(words)-1] = ""
		}
		if r := runCLI(t, nil, Interrupts{}, words...); r.code != exitUsage || r.stderr != "blocksd: "+want+"\n" {
			t.Errorf("%s: %+v", args, r)
		}
	}
}

// A command that is interrupted says what goes on without it.
func TestInterruptedControlCommands(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served, asked := make(chan struct{}), make(chan struct{}, 1)
	go func() { // takes calls and never answers
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			asked <- struct{}{}
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-served })
	for _, c := range []struct {
		args string
		want string
	}{
		{"drain", "blocksd: drain: interrupted, but the daemon goes on draining: blocksd undrain ends that\n"},
		{"restart echo", "blocksd: restart: interrupted, but the daemon goes on replacing the processes: blocksd handlers shows them\n"},
		{"handler rollback echo", "blocksd: rollback: interrupted, but the daemon may go on: blocksd handlers shows what runs\n"},
		{"status", "blocksd: interrupted\n"},
	} {
		first := make(chan struct{})
		go func() { <-asked; close(first) }() // each command asks once
		r := runCLI(t, nil, Interrupts{First: first}, append(strings.Fields(c.args), "--socket", socket)...)
		if r.code != exitFailure || r.stdout != "" || r.stderr != c.want {
			t.Errorf("%s: %+v, want %s", c.args, r, c.want)
		}
	}
}
