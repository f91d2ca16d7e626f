package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// startup has the faults at the start of a process, by the end of the file name.
var startup = map[string]func(){
	"minimal":       minimal,
	"never-answers": func() { select {} },
	"not-a-plugin": func() {
		fmt.Println("Hello! I am an ordinary program.")
		os.Exit(0)
	},
	"chatty": func() { // says something else first and stays
		fmt.Println("Hello! I am an ordinary program.")
		select {}
	},
	"exit-at-start": func() {
		fmt.Fprintln(os.Stderr, "cannot find my model file")
		os.Exit(3)
	},
	"exit0-at-start": func() { os.Exit(0) },
	"lingers-at-start": func() { // as on a busy machine: its output ends well before it does
		fmt.Fprintln(os.Stderr, "cannot find my model file")
		os.Stdout.Close()
		os.Stderr.Close()
		time.Sleep(time.Second)
		os.Exit(3)
	},
	"slow-stop": func() {
		serveHandler()
		time.Sleep(3 * time.Second)
		os.Exit(0)
	},
	"closes-stdout": func() {
		os.Stdout.Close()
		select {}
	},
	"exit0-at-handshake": func() { handshakeAnd(func() { os.Exit(0) }) },
	"exit1-at-handshake": func() { handshakeAnd(func() { os.Exit(1) }) },
	"kill-at-handshake":  func() { handshakeAnd(func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }) },
	"unflushed": func() { // the end of the line stays in its buffer
		fmt.Print("1|1|unix|/x|grpc|")
		select {}
	},
	"no-health":              func() { serve(&minimalService{}, nil) },
	"health-of-another-name": func() { serve(&minimalService{}, healthOf("")) },
	"health-without-words": func() {
		serve(&minimalService{}, refusingHealth{})
	},
	"not-serving": func() {
		h := healthOf("plugin")
		h.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		serve(&minimalService{}, h)
	},
	"describe-without-words": func() {
		serve(&minimalService{refusal: status.Error(codes.InvalidArgument, "")}, healthOf("plugin"))
	},
	"exit0-at-describe":   func() { serveMinimal(func() { os.Exit(0) }) },
	"exit1-at-describe":   func() { serveMinimal(func() { os.Exit(1) }) },
	"lingers-at-describe": func() { serveMinimal(func() { slowExit(1) }) },
	"kill-at-describe":    func() { serveMinimal(func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }) },
	"hang-at-describe":    func() { serveMinimal(func() { select {} }) },
	"kill-at-start":       func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) },
	"wrong-version": func() {
		fmt.Printf("1|99|unix|%s/x|grpc|\n", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		select {}
	},
	"tcp": func() {
		fmt.Println("1|1|tcp|127.0.0.1:1|grpc|")
		select {}
	},
	"elsewhere": func() { // a socket outside of its directory
		fmt.Println("1|1|unix|/run/other.sock|grpc|")
		select {}
	},
	"no-socket": func() {
		fmt.Printf("1|1|unix|%s/missing|grpc|\n", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		select {}
	},
	"deaf": func() { // a socket that nobody serves
		path := os.Getenv("PLUGIN_UNIX_SOCKET_DIR") + "/deaf"
		fd, _ := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		_ = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
		_ = syscall.Listen(fd, 16)
		fmt.Printf("1|1|unix|%s|grpc|\n", path)
		select {}
	},
	"heir": func() { // what it leaves behind holds its socket, in a session of its own and without its environment
		path := os.Getenv("PLUGIN_UNIX_SOCKET_DIR") + "/heir"
		fd, _ := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		_ = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
		_ = syscall.Listen(fd, 16)
		cmd := exec.Command("sleep", "600")
		cmd.Env, cmd.ExtraFiles, cmd.SysProcAttr = []string{"A=b"}, []*os.File{os.NewFile(uintptr(fd), "socket")}, &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Printf("1|1|unix|%s|grpc|\n", path)
		fmt.Fprintln(os.Stderr, "heir", cmd.Process.Pid)
		select {}
	},
	"unasked-certificate": func() { // go-plugin itself would panic
		path := os.Getenv("PLUGIN_UNIX_SOCKET_DIR") + "/x"
		fd, _ := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		_ = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
		_ = syscall.Listen(fd, 16)
		fmt.Printf("1|1|unix|%s|grpc|%s\n", path, certificate())
		select {}
	},
	"bad-certificate": func() {
		fmt.Printf("1|1|unix|%s/x|grpc|%s\n", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), strings.Repeat("A", 100))
		select {}
	},
	"wrong-cookie": func() { // as if it had been started by something else
		os.Unsetenv("BLOCKS_HANDLER_COOKIE")
	},
	"flood-at-start": func() { // never stops to talk, on both streams
		go func() {
			for {
				fmt.Fprintln(os.Stderr, "still not ready")
			}
		}()
		for {
			fmt.Println("still not ready")
		}
	},
	"fork-at-start": func() { // leaves children that hold its pipes, and ends
		for range 3 {
			cmd := exec.Command("sleep", "600")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			_ = cmd.Start()
		}
		os.Exit(1)
	},
	"long-first-line": func() {
		fmt.Println(strings.Repeat("x", 1<<20))
		select {}
	},
}

// slowExit ends the process with a code, well after its connections have broken.
func slowExit(code int) {
	for fd := 3; fd < 100; fd++ { // of those that are no sockets it is refused
		_ = syscall.Shutdown(fd, syscall.SHUT_RDWR)
	}
	time.Sleep(time.Second)
	os.Exit(code)
}

// handshakeAnd does something bad as soon as it has said where its socket is.
func handshakeAnd(bad func()) {
	path := os.Getenv("PLUGIN_UNIX_SOCKET_DIR") + "/early"
	fd, _ := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	_ = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	_ = syscall.Listen(fd, 16)
	fmt.Printf("1|1|unix|%s|grpc|\n", path)
	bad()
}

// certificate is one as a handshake carries it.
func certificate() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ""
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return ""
	}
	return base64.RawStdEncoding.EncodeToString(der)
}
