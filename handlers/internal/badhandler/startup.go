package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// startup are the misdeeds at the start of the process, by the end of the file name.
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
	"kill-at-start": func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) },
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
	"long-first-line": func() {
		fmt.Println(strings.Repeat("x", 1<<20))
		select {}
	},
}
