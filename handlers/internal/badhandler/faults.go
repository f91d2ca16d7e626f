package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/blocksd/blocksd/pluginsdk"
)

// fault is something bad that a handler does with a task. The argument is the rest of the request behind the name.
type fault func(ctx context.Context, t *pluginsdk.Task, argument string) error

// faults by name, which is the first word of the request. Those from "publish" on do nothing bad: tests use them to look
// inside.
var faults = map[string]fault{
	"panic": func(context.Context, *pluginsdk.Task, string) error { panic("I was told to") },
	"crash": func(context.Context, *pluginsdk.Task, string) error { // a panic that nobody recovers
		go panic("the whole process goes down")
		select {}
	},
	"exit": func(_ context.Context, _ *pluginsdk.Task, argument string) error {
		fmt.Fprintln(stderr, "leaving")
		os.Exit(atoi(argument))
		return nil
	},
	"slow-exit": func(_ context.Context, _ *pluginsdk.Task, argument string) error {
		slowExit(atoi(argument))
		return nil
	},
	"kill": func(context.Context, *pluginsdk.Task, string) error {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	},
	"stop": func(context.Context, *pluginsdk.Task, string) error { // freezes the whole process
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		select {} // the signal takes a moment to reach every thread
	},
	"ignore-cancel": func(_ context.Context, t *pluginsdk.Task, _ string) error {
		t.Status("not listening")
		select {}
	},
	"hang": func(ctx context.Context, t *pluginsdk.Task, _ string) error { // until it is canceled
		t.Status("hanging")
		<-ctx.Done()
		return context.Cause(ctx)
	},
	"slow-cancel": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		t.Status("hanging")
		<-ctx.Done()
		d, _ := time.ParseDuration(argument)
		time.Sleep(d)
		return context.Cause(ctx)
	},
	"stderr-bad-json": func(_ context.Context, t *pluginsdk.Task, _ string) error {
		for _, line := range []string{`{"@message": 1}`, `{"@level": [], "@message": {}}`, `{"@timestamp": 5, "@message": "x"}`, `{`, "\xff\xfe{}", "\x00"} {
			fmt.Fprintln(stderr, line)
		}
		return t.Send(pluginsdk.Text("done"))
	},
	"long-line": func(_ context.Context, t *pluginsdk.Task, _ string) error {
		line := strings.Repeat("x", 1<<20)
		for _, w := range []io.Writer{stdout, stderr, os.Stdout, os.Stderr} {
			fmt.Fprintln(w, line)
		}
		return t.Send(pluginsdk.Text("done"))
	},
	"flood": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		for i := range max(atoi(argument), 10_000) {
			fmt.Fprintln(stderr, "line", i)
			fmt.Fprintln(stdout, "line", i)
		}
		return t.Send(pluginsdk.Text("done"))
	},
	"grandchild": func(_ context.Context, t *pluginsdk.Task, argument string) error { // one that holds the pipes; "setsid": outside of the group
		cmd := exec.Command("sleep", "600")
		cmd.Stdout, cmd.Stderr = stdout, stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: argument == "setsid"}
		if err := cmd.Start(); err != nil {
			return err
		}
		return t.Send(pluginsdk.Text(strconv.Itoa(cmd.Process.Pid)))
	},
	"error": func(_ context.Context, _ *pluginsdk.Task, argument string) error { return errors.New(argument) },
	"private-error": func(_ context.Context, _ *pluginsdk.Task, argument string) error {
		return pluginsdk.Private("Something went wrong.", errors.New(argument))
	},
	"headers": func(ctx context.Context, t *pluginsdk.Task, argument string) error { // so many KiB of metadata before the answer
		all := metadata.MD{}
		for i := range atoi(argument) {
			all.Set("x-"+strconv.Itoa(i), strings.Repeat("x", 1<<10))
		}
		if err := grpc.SendHeader(ctx, all); err != nil {
			return err
		}
		return t.Send(pluginsdk.Text("done"))
	},
	"status-flood": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		for i := range atoi(argument) {
			t.Status("status " + strconv.Itoa(i))
		}
		return t.Send(pluginsdk.Text("done"))
	},
	"artifact": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		return t.Send(pluginsdk.Artifact{OutputID: "reply", FileName: "zeros.bin", Data: make([]byte, atoi(argument))})
	},
	"giant": func(_ context.Context, t *pluginsdk.Task, argument string) error { // an artifact of so many MiB and one byte
		body := io.LimitReader(zeros{}, int64(atoi(argument))<<20+1)
		return t.Send(pluginsdk.Artifact{OutputID: "reply", FileName: "giant.bin", Body: body})
	},
	"hog": func(_ context.Context, t *pluginsdk.Task, argument string) error { // takes so many MiB of memory, and uses them
		t.Status("taking memory")
		var taken [][]byte
		for range atoi(argument) {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			taken = append(taken, b)
		}
		return t.Send(pluginsdk.Text(strconv.Itoa(len(taken))))
	},
	"fork": func(_ context.Context, t *pluginsdk.Task, argument string) error { // so many children, or as many as it gets
		started := 0
		for range atoi(argument) {
			cmd := exec.Command("sleep", "600")
			if cmd.Start() != nil {
				break
			}
			started++
		}
		return t.Send(pluginsdk.Text(strconv.Itoa(started)))
	},
	"leak-files": func(_ context.Context, t *pluginsdk.Task, argument string) error { // so many descriptors, or as many as it gets
		opened := 0
		for range atoi(argument) {
			if _, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
				break
			}
			opened++
		}
		return t.Send(pluginsdk.Text(strconv.Itoa(opened)))
	},
	"close-socket": func(ctx context.Context, t *pluginsdk.Task, _ string) error { // every socket that it has, and the file
		t.Status("closing")
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return err
		}
		for _, fd := range fds {
			if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, "socket:") {
				_ = syscall.Shutdown(atoi(fd.Name()), syscall.SHUT_RDWR)
			}
		}
		_ = os.RemoveAll(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		<-ctx.Done()
		return ctx.Err()
	},
	"publish": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		return t.Publish(ctx, pluginsdk.Artifact{OutputID: "reply", FileName: "zeros.bin", Data: make([]byte, atoi(argument))})
	},
	"host": hostCall,
	"none": func(_ context.Context, t *pluginsdk.Task, _ string) error { return t.Send(pluginsdk.Text("good")) },
	"pid": func(_ context.Context, t *pluginsdk.Task, _ string) error {
		return t.Send(pluginsdk.Text(strconv.Itoa(os.Getpid())))
	},
	"environment": func(_ context.Context, t *pluginsdk.Task, _ string) error {
		return t.Send(pluginsdk.Text(strings.Join(os.Environ(), "\n")))
	},
	"download": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		f, err := t.File(ctx, argument)
		if err != nil {
			return err
		}
		defer f.Close()
		return t.Send(pluginsdk.Artifact{FileName: f.Name, MIMEType: f.MIMEType, Body: f})
	},
	"log": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		slog.Warn(argument, "task", t.ID)
		fmt.Println("printed " + argument)
		return t.Send(pluginsdk.Text("done"))
	},
}

// The descriptors that the process was started with: go-plugin replaces os.Stdout and os.Stderr later.
var stdout, stderr = os.Stdout, os.Stderr

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
