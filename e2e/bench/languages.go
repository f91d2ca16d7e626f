package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// measureLanguages measures a handler in each language that has a package, started as the daemon does and called with
// nothing between, beside a server with nothing around it that is made with the same library. The two take turns, so that
// both have the same machine.

// program is a handler, or what stands in for one.
type program struct {
	name string
	args []string
	dir  string
}

// pair is what is compared.
type pair struct {
	language      string
	handler, bare program
}

// costs are what one program needs.
type costs struct {
	ready     []time.Duration // start → handshake read and first call answered
	idle      int64           // bytes, of the process
	perSecond []float64       // calls that ended, 16 in flight
	lone      []time.Duration // call sent → ended, one at a time
	crowded   []time.Duration // the same, 16 in flight
	cpu       time.Duration   // of the process, for all calls
	calls     int64
}

const (
	starts    = 9
	callRuns  = 3
	callTime  = time.Second
	callLanes = 16
	loneCalls = 300
	// readyTime is how long a program may take to get ready.
	readyTime = time.Minute
)

func measureLanguages(bin, work string) error {
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	pairs, missing, err := languagePairs(bin, root, work)
	if err != nil {
		return err
	}
	fmt.Printf("\n%-34s %13s %13s %8s %9s\n", "handlers by language", "handler", "bare gRPC", "ratio", "over Go")
	var inGo *costs
	for _, p := range pairs {
		handler, bare := &costs{}, &costs{}
		for i := range starts {
			for of, c := range map[*program]*costs{&p.handler: handler, &p.bare: bare} {
				if err := c.measure(*of, i < callRuns); err != nil {
					return fmt.Errorf("measure %s: %w", of.name, err)
				}
			}
		}
		if inGo == nil {
			inGo = handler
		}
		row := func(what, unit string, value func(*costs) float64) {
			ours, theirs := value(handler), value(bare)
			fmt.Printf("%-34s %9.4g %-3s %9.4g %-3s %7.2f %8.2f ×\n", p.language+": "+what, ours, unit, theirs, unit, ours/theirs, ours/value(inGo))
		}
		row("start to ready, median", "ms", func(c *costs) float64 { return ms(quantile(c.ready, .5)) })
		row("idle memory", "MiB", func(c *costs) float64 { return float64(c.idle) / (1 << 20) })
		row("calls per second", "1/s", func(c *costs) float64 { return slices.Max(c.perSecond) })
		row("processor time per call", "µs", (*costs).perCall)
		row("a lone call, p50", "µs", func(c *costs) float64 { return us(quantile(c.lone, .5)) })
		row("a call with 16 in flight, p50", "µs", func(c *costs) float64 { return us(quantile(c.crowded, .5)) })
	}
	for _, m := range missing {
		fmt.Println(m)
	}
	return nil
}

// languagePairs are the programs of the languages whose packages are installed.
func languagePairs(bin, root, work string) (pairs []pair, missing []string, err error) {
	bare := filepath.Join(root, "e2e", "bench", "bare")
	bareGo := program{"bare gRPC in Go", []string{filepath.Join(work, "bare-go")}, work}
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bareGo.args[0], "./e2e/bench/bare/go").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	pairs = append(pairs, pair{"Go", program{"echo in Go", []string{filepath.Join(bin, "plugins", "echo")}, work}, bareGo})

	python := filepath.Join(root, "pluginsdk", "python", ".venv", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		missing = append(missing, "Python is not measured: run make test, which installs what its package needs")
	} else {
		dir := filepath.Join(work, "python")
		if err := project(dir, "handler.py", "def handler(task, ctx):\n    return {'artifacts': [{'data': task.request_parts[0].text, 'mimeType': 'text/plain'}]}\n"); err != nil {
			return nil, nil, err
		}
		pairs = append(pairs, pair{
			"Python", program{"a project in Python", []string{python, filepath.Join(root, "pluginsdk", "python", "run.py"), dir}, dir},
			program{"bare gRPC in Python", []string{python, filepath.Join(bare, "bare.py")}, work},
		})
	}
	modules := filepath.Join(root, "pluginsdk", "node", "node_modules")
	if _, err := os.Stat(modules); err != nil {
		missing = append(missing, "Node.js is not measured: run make test, which installs what its package needs")
	} else {
		for _, of := range [][2]string{{"JavaScript", "handler.mjs"}, {"TypeScript", "handler.ts"}} {
			language, file := of[0], of[1]
			dir := filepath.Join(work, language)
			source := "export default async function handler(task) {\n  return { artifacts: [{ data: task.requestParts[0].text, mimeType: 'text/plain' }] };\n}\n"
			if language == "TypeScript" {
				source = strings.Replace(source, "(task)", "(task: { requestParts: { text: string }[] })", 1)
			}
			if err := project(dir, file, source); err != nil {
				return nil, nil, err
			}
			pairs = append(pairs, pair{
				language, program{"a project in " + language, []string{
					"node", filepath.Join(root, "pluginsdk", "node", "run.mjs"), "--project", dir, "--file", filepath.Join(dir, file),
				}, dir},
				program{"bare gRPC in Node.js", []string{"node", filepath.Join(bare, "bare.cjs"), modules}, work},
			})
		}
	}
	dir := filepath.Join(work, "exec")
	if err := project(dir, "handler.yaml", "command: [cat]\n"); err != nil {
		return nil, nil, err
	}
	pairs = append(pairs, pair{"exec (a process per call)", program{"blocksd-exec", []string{filepath.Join(bin, "blocksd-exec"), filepath.Join(dir, "handler.yaml")}, dir}, bareGo})
	return pairs, missing, nil
}

// project makes a project with one file.
func project(dir, file, source string) error {
	card := fmt.Sprintf(`{"identity":{"agentName":"bench","displayName":"b","description":"b","version":"1","provider":{"organization":"b"}},
"capabilities":{"taskKinds":["request"]},"io":{"inputs":[],"outputs":[]},"tags":[{"id":"b","name":"b"}],"runtime":{"handler":"./%s"}}`, file)
	return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "agent-card.json"), []byte(card), 0o644),
		os.WriteFile(filepath.Join(dir, file), []byte(source), 0o644))
}

// measure starts a program, and stops it.
func (c *costs) measure(p program, calls bool) error {
	dir, err := os.MkdirTemp("", "bench-") // short enough for a socket
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir, cmd.Stderr = p.dir, os.Stderr
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "BLOCKS_HANDLER_COOKIE=blocks.handler.v1", "PLUGIN_PROTOCOL_VERSIONS=1",
		"PLUGIN_UNIX_SOCKET_DIR=" + dir, "BLOCKSD_HOST_SOCKET=" + filepath.Join(dir, "host"), "BLOCKSD_HOST_TOKEN=x",
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	over := time.AfterFunc(readyTime, func() { _ = cmd.Process.Kill() })
	defer func() {
		over.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	reader := bufio.NewReader(stdout)
	line, err := reader.ReadString('\n')
	fields := strings.Split(line, "|")
	if err != nil || len(fields) < 5 {
		return fmt.Errorf("it printed %q and no handshake: %w", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }() // ends with the process
	conn, err := grpc.NewClient("unix:"+fields[3], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := callHandler(conn, 0); err != nil {
		return err
	}
	c.ready = append(c.ready, time.Since(began))
	if !calls {
		return nil
	}
	c.idle = max(c.idle, memoryOf(cmd.Process.Pid))
	// What compiles while it runs needs some calls before it is as fast as it will be.
	if err := new(costs).callMany(conn, cmd.Process.Pid); err != nil {
		return err
	}
	for i := range int64(loneCalls) {
		began := time.Now()
		if err := callHandler(conn, i); err != nil {
			return err
		}
		c.lone = append(c.lone, time.Since(began))
	}
	return c.callMany(conn, cmd.Process.Pid)
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// perCall is in microseconds.
func (c *costs) perCall() float64 { return float64(c.cpu.Microseconds()) / float64(c.calls) }

func (c *costs) callMany(conn *grpc.ClientConn, pid int) error {
	before, err := cpu(pid)
	if err != nil {
		return err
	}
	var (
		wg     sync.WaitGroup
		next   atomic.Int64
		failed atomic.Pointer[error]
		took   [callLanes][]time.Duration
	)
	began := time.Now()
	for lane := range took {
		wg.Go(func() {
			for time.Since(began) < callTime {
				sent := time.Now()
				if err := callHandler(conn, next.Add(1)); err != nil {
					failed.Store(&err)
					return
				}
				took[lane] = append(took[lane], time.Since(sent))
			}
		})
	}
	wg.Wait()
	all := time.Since(began)
	c.crowded = slices.Concat(append(took[:], c.crowded)...)
	if err := failed.Load(); err != nil {
		return *err
	}
	after, err := cpu(pid)
	c.cpu += after - before
	c.calls += next.Load()
	c.perSecond = append(c.perSecond, float64(next.Load())/all.Seconds())
	return err
}

// callHandler gives a task to a handler, and reads the answers to their end.
func callHandler(conn *grpc.ClientConn, id int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	part := field(field(nil, 1, []byte("request")), 3, []byte("hello!"))
	task := field(field(nil, 1, []byte("task_"+strconv.FormatInt(id, 10))), 2, []byte("bench"))
	task = protowire.AppendVarint(protowire.AppendTag(task, 3, protowire.VarintType), 1) // a request
	task = field(task, 4, part)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/blocks.handler.v1.HandlerService/StartTask")
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(field(nil, 1, task)), stream.CloseSend()); err != nil {
		return err
	}
	for answers := 0; ; answers++ {
		var answer []byte
		if err := stream.RecvMsg(&answer); err == io.EOF && answers == 2 {
			return nil
		} else if err != nil {
			return fmt.Errorf("after %d answers: %w", answers, err)
		}
	}
}

func field(to []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), value)
}

// memoryOf is the resident memory of a process.
func memoryOf(pid int) int64 {
	return (&process{cmd: &exec.Cmd{Process: &os.Process{Pid: pid}}}).rss()
}

// rawCodec passes messages as they are.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
