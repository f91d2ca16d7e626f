package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/pluginsdk"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// attack is something that a handler does to others. The argument is the rest of the request behind the name.
type attack func(ctx context.Context, t *pluginsdk.Task, argument string) error

// settle is how long a refusal may take on a busy machine. It is waited for step by step: a machine that stands still for a
// while takes one step from it.
const settle, step = 10 * time.Second, 100 * time.Millisecond

// unhurried bounds hangs.
const unhurried = 2 * time.Minute

// early waits for a value, but for no longer than limit.
func early[T any](c <-chan T, limit time.Duration) (value T, came bool) {
	for range limit / step {
		select {
		case value = <-c:
			return value, true
		case <-time.After(step):
		}
	}
	return value, false
}

// attacks by name, which is the first word of the request.
var attacks = map[string]attack{
	// sh runs a script and answers with what it wrote.
	"sh": func(ctx context.Context, t *pluginsdk.Task, script string) error {
		out, err := exec.CommandContext(ctx, "sh", "-c", script).CombinedOutput()
		if len(out) > 8<<10 {
			out = out[:8<<10]
		}
		return t.Send(pluginsdk.Text(fmt.Sprintf("%s[%v]", out, err)))
	},
	// connections opens so many connections to a socket and answers how many of them are still open a moment later.
	"connections": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		path, n, _ := strings.Cut(argument, " ")
		if path == "host" {
			path = os.Getenv("BLOCKSD_HOST_SOCKET")
		}
		var open []net.Conn
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		for range atoi(n) {
			c, err := net.DialTimeout("unix", path, unhurried)
			if err != nil {
				break
			}
			open = append(open, c)
		}
		t.Status("connected")
		held := 0
		for _, c := range open {
			read := make(chan error, 1)
			go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
			if err, came := early(read, time.Second); !came || err == nil {
				held++
			}
		}
		return t.Send(pluginsdk.Text(fmt.Sprint(held)))
	},
	// downloads opens so many downloads of the input "file" and reads none.
	"downloads": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		return streams(ctx, t, atoi(argument), func(ctx context.Context, client handlerv1.HostServiceClient) error {
			s, err := client.DownloadInput(ctx, &handlerv1.DownloadInputRequest{TaskId: t.ID, PartIndex: 1})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		})
	},
	// leak opens so many downloads, reads none, and ends without closing them.
	"leak": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		client, _, err := hostClient()
		if err != nil {
			return err
		}
		forever := metadata.AppendToOutgoingContext(context.WithoutCancel(ctx), "blocksd-host-token", os.Getenv("BLOCKSD_HOST_TOKEN"))
		for range atoi(argument) {
			s, err := client.DownloadInput(forever, &handlerv1.DownloadInputRequest{TaskId: t.ID, PartIndex: 1})
			if err == nil {
				_, err = s.Recv()
			}
			if err != nil {
				return err
			}
		}
		return t.Send(pluginsdk.Text("done"))
	},
	// artifacts begins so many artifacts of some MiB, of a byte for 0, and ends none.
	"artifacts": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		n, mib, _ := strings.Cut(argument, " ")
		return streams(ctx, t, atoi(n), func(ctx context.Context, client handlerv1.HostServiceClient) error {
			s, err := client.PublishArtifact(ctx)
			if err != nil {
				return err
			}
			info := &handlerv1.ArtifactInfo{FileName: "endless"}
			size := 1 << 20
			if atoi(mib) == 0 {
				mib, size = "1", 1
			}
			for range atoi(mib) {
				if s.Send(&handlerv1.PublishArtifactRequest{TaskId: t.ID, Chunk: &handlerv1.ArtifactChunk{Info: info, Data: make([]byte, size)}}) != nil {
					return s.RecvMsg(new(handlerv1.PublishArtifactResponse))
				}
				info = nil
			}
			ended := make(chan error, 1)
			go func() { ended <- s.RecvMsg(new(handlerv1.PublishArtifactResponse)) }()
			err, _ = early(ended, settle) // an artifact that was let in has no answer yet
			return err
		})
	},
	// log writes so many MiB of lines.
	"log": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		line := []byte(strings.Repeat("flood ", 10<<10) + "\n")
		for written := 0; written < atoi(argument)<<20; written += len(line) {
			_, _ = os.Stderr.Write(line)
		}
		return t.Send(pluginsdk.Text("done"))
	},
	// lines writes so many short lines.
	"lines": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		w := bufio.NewWriter(os.Stderr)
		for i := range atoi(argument) {
			fmt.Fprintln(w, "line", i)
		}
		_ = w.Flush()
		return t.Send(pluginsdk.Text("done"))
	},
	// status sends so many statuses.
	"status": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		for i := range atoi(argument) {
			t.Status(strconv.Itoa(i))
		}
		return t.Send(pluginsdk.Text("done"))
	},
	// files makes so many files in its private directory.
	"files": func(_ context.Context, t *pluginsdk.Task, argument string) error {
		made := 0
		for i := range atoi(argument) {
			if os.WriteFile(os.Getenv("PLUGIN_UNIX_SOCKET_DIR")+"/file-"+strconv.Itoa(i), nil, 0o600) == nil {
				made++
			}
		}
		return t.Send(pluginsdk.Text(fmt.Sprint(made)))
	},
	// refused makes so many calls of the host service that must be refused, and answers with the codes.
	"refused": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		client, conn, err := hostClient()
		if err != nil {
			return err
		}
		defer conn.Close()
		codes := map[string]int{}
		for i := range atoi(argument) {
			token := os.Getenv("BLOCKSD_HOST_TOKEN")
			if i%2 == 0 {
				token = strings.Repeat("x", 64)
			}
			s, err := client.DownloadInput(metadata.AppendToOutgoingContext(ctx, "blocksd-host-token", token), &handlerv1.DownloadInputRequest{TaskId: "another", PartIndex: 1})
			if err == nil {
				_, err = s.Recv()
			}
			codes[status.Code(err).String()]++
		}
		return t.Send(pluginsdk.Text(fmt.Sprint(codes)))
	},
	// windows opens so many calls of the control socket that follow events, on as many connections as it gets, and reads none.
	"windows": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		path, n, _ := strings.Cut(argument, " ")
		ctx, cancel := context.WithTimeout(ctx, settle)
		defer cancel()
		var conns []*grpc.ClientConn
		defer func() {
			for _, c := range conns {
				c.Close()
			}
		}()
		opened, refused := 0, 0
		for i := range atoi(n) {
			if i%1000 == 0 {
				c, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(64<<10))
				if err != nil {
					return err
				}
				conns = append(conns, c)
			}
			one, stop := context.WithTimeout(ctx, 5*time.Millisecond) // beyond the server's limit a call waits here
			go func() {
				_, err := controlv1.NewControlServiceClient(conns[len(conns)-1]).Events(ctx, &controlv1.EventsRequest{Follow: true})
				if err == nil {
					stop()
				}
			}()
			<-one.Done()
			if context.Cause(one) == context.Canceled {
				opened++
			} else if refused++; refused > 200 {
				break
			}
			stop()
		}
		t.Status("waiting")
		<-ctx.Done()
		return t.Send(pluginsdk.Text(fmt.Sprintf("%d opened, %d not", opened, refused)))
	},
	// peek tries to look into other processes, and answers what it has got.
	"peek": func(_ context.Context, t *pluginsdk.Task, pids string) error {
		var got []string
		for _, pid := range strings.Fields(pids) {
			for _, file := range []string{"mem", "environ", "maps", "auxv", "syscall", "fd/0", "cwd/.", "root/."} {
				if f, err := os.Open("/proc/" + pid + "/" + file); err == nil {
					if n, err := f.Read(make([]byte, 1)); n > 0 || err != nil && strings.HasSuffix(file, "/.") {
						got = append(got, pid+"/"+file)
					}
					f.Close()
				}
			}
			runtime.LockOSThread()
			if err := syscall.PtraceAttach(atoi(pid)); err == nil {
				got = append(got, pid+"/ptrace")
				_ = syscall.PtraceDetach(atoi(pid))
			}
			runtime.UnlockOSThread()
		}
		return t.Send(pluginsdk.Text(fmt.Sprintf("got %q", got)))
	},
	// code asks for memory that can be written and executed, at once and one after the other.
	"code": func(_ context.Context, t *pluginsdk.Task, _ string) error {
		var got []string
		for name, first := range map[string]int{"both at once": syscall.PROT_READ | syscall.PROT_WRITE | syscall.PROT_EXEC, "written first": syscall.PROT_READ | syscall.PROT_WRITE} {
			page, err := syscall.Mmap(-1, 0, os.Getpagesize(), first, syscall.MAP_ANON|syscall.MAP_PRIVATE)
			if err != nil {
				continue
			}
			if syscall.Mprotect(page, syscall.PROT_READ|syscall.PROT_EXEC) == nil {
				got = append(got, name)
			}
			_ = syscall.Munmap(page)
		}
		slices.Sort(got)
		return t.Send(pluginsdk.Text(fmt.Sprintf("got %q", got)))
	},
	// abstract connects to an abstract socket.
	"abstract": func(_ context.Context, t *pluginsdk.Task, name string) error {
		c, err := net.Dial("unix", "@"+name)
		if err == nil {
			c.Close()
		}
		return t.Send(pluginsdk.Text(fmt.Sprint(err)))
	},
	// forge publishes an artifact of another task, at each of some sockets: with its own token, and with others.
	"forge": func(ctx context.Context, t *pluginsdk.Task, argument string) error {
		words := strings.Fields(argument)
		var told []string
		for _, socket := range append(words[1:], os.Getenv("BLOCKSD_HOST_SOCKET")) {
			for _, token := range []string{os.Getenv("BLOCKSD_HOST_TOKEN"), "", strings.Repeat("0", 64)} {
				told = append(told, forge(ctx, socket, token, words[0]))
			}
		}
		return t.Send(pluginsdk.Text(strings.Join(told, "\n")))
	},
	// error fails with a text of so many bytes, some of which are not text.
	"error": func(_ context.Context, _ *pluginsdk.Task, argument string) error {
		return pluginsdk.Private("It failed.", errors.New(strings.Repeat("e\xff", atoi(argument)/2)))
	},
	// grpc-message ends the call of a task with a gRPC error whose message is of so many bytes.
	"grpc-message": func(_ context.Context, _ *pluginsdk.Task, argument string) error {
		return status.Error(13, strings.Repeat("\x1b[31m", atoi(argument)/5))
	},
}

// streams begins so many calls of the host service at once, and answers how many of them were let in and what the others
// were told.
func streams(ctx context.Context, t *pluginsdk.Task, n int, begin func(context.Context, handlerv1.HostServiceClient) error) error {
	client, conn, err := hostClient()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "blocksd-host-token", os.Getenv("BLOCKSD_HOST_TOKEN")), unhurried)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	in, told := 0, map[string]int{}
	for range n {
		all.Go(func() {
			err := begin(ctx, client)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				in++
			} else {
				told[status.Convert(err).Message()]++
			}
		})
	}
	all.Wait()
	t.Status(fmt.Sprint("holding ", in))
	return t.Send(pluginsdk.Text(fmt.Sprintf("%d in, %v", in, told)))
}

// forge publishes an artifact of a task by hand, and says what became of it.
func forge(ctx context.Context, socket, token, task string) string {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	limit, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "blocksd-host-token", token), unhurried)
	defer cancel()
	s, err := handlerv1.NewHostServiceClient(conn).PublishArtifact(limit)
	if err == nil {
		_ = s.Send(&handlerv1.PublishArtifactRequest{TaskId: task, Chunk: &handlerv1.ArtifactChunk{
			Info: &handlerv1.ArtifactInfo{FileName: "forged"}, Data: []byte("forged"), Last: true,
		}})
		_, err = s.CloseAndRecv()
	}
	return status.Code(err).String()
}

// hostClient is a connection to the host service of its own.
func hostClient() (handlerv1.HostServiceClient, *grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix:"+os.Getenv("BLOCKSD_HOST_SOCKET"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return handlerv1.NewHostServiceClient(conn), conn, nil
}
