package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil"
)

// Streams as users see them: call --stream, --stream-dir and --send, and follow.

// TestReaderOfCallLeaves: when nobody reads what a call prints any more, as behind head, its task is canceled.
func TestReaderOfCallLeaves(t *testing.T) {
	n := scriptedDaemon(t)
	script := steps(t, map[string]any{"pace": map[string]any{"name": "log", "size": 10, "every": 0.1}})
	for _, args := range [][]string{{"--stream"}, {"--stream", "--json"}} {
		cmd := exec.Command(n.Blocksd(), append([]string{"call", "scripted", "--text", script}, args...)...)
		cmd.Env = append(system.CleanEnv(), n.Env...)
		var stderr testutil.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 10)); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		out.Close()
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 5 {
			t.Errorf("%q: %v\n%s", args, err, stderr.String())
		}
	}
	system.Eventually(t, system.CallDeadline, "both tasks are canceled", func() bool {
		return strings.Join(listed(t, n, "scripted"), " ") == "canceled canceled"
	})
	n.Stop(t)
}

// intoFull runs a command whose standard output has no room.
func intoFull(t *testing.T, n *system.Network, args ...string) (code int, said string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := exec.Command(n.Blocksd(), args...)
	cmd.Env = append(system.CleanEnv(), n.Env...)
	var stderr testutil.Buffer
	cmd.Stdout, cmd.Stderr = full, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(system.CallDeadline, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	_ = cmd.Wait() // the code says it
	return cmd.ProcessState.ExitCode(), stderr.String()
}

// TestOutputIsLost: when what a call prints or writes cannot be written, its task is canceled, and one sentence says why.
// A follow leaves the task alone.
func TestOutputIsLost(t *testing.T) {
	n := scriptedDaemon(t) // dev would send an example while the tasks are counted
	streaming, quiet := steps(t, map[string]any{"pace": map[string]any{"name": "log", "size": 10, "every": 0.1}}), steps(t, map[string]any{"until_cancel": 60})
	blocked, vanished := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(blocked, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	const full = "write standard output: no space left on device"
	canceled := 0
	for _, c := range []struct {
		script string
		args   []string
		want   string
	}{
		{streaming, []string{"--stream"}, full},
		{streaming, []string{"--stream", "--json"}, full},
		{quiet, nil, full},
		{quiet, []string{"--json"}, full},
		{streaming, []string{"--stream-dir", vanished}, full},
		{streaming, []string{"--stream-dir", blocked}, `write stream "log" to ` + filepath.Join(blocked, "log") + ": is a directory"},
	} {
		args := append([]string{"call", "scripted", "--text", c.script}, c.args...)
		code, said := 0, ""
		if c.want == full {
			code, said = intoFull(t, n, args...)
		} else {
			r := n.Run(t, n.Env, args...)
			code, said = r.Code, r.Stderr
		}
		lines := strings.Split(strings.TrimSpace(said), "\n")
		if last := lines[len(lines)-1]; code != 1 || !strings.HasPrefix(last, "blocksd: call scripted: "+c.want+", so task task_") || !strings.HasSuffix(last, " was canceled") {
			t.Errorf("%q: exit %d\n%s", c.args, code, said)
		}
		canceled++
		if states := listed(t, n, "scripted"); states[0] != "canceled" || len(states) != canceled {
			t.Errorf("%q: the tasks are %q", c.args, states)
		}
	}

	task := n.StartCall(t, "scripted", "--text", streaming, "--stream-dir", vanished)
	task.AwaitStream(t, "log")
	for _, args := range [][]string{{"--stream"}, {"--stream", "--json"}, {"--json"}, {}} {
		code, said := intoFull(t, n, append([]string{"follow", task.TaskID}, args...)...)
		if want := "blocksd: follow " + task.TaskID + ": " + full + "; the task goes on\n"; code != 1 || !strings.HasSuffix(said, want) {
			t.Errorf("follow %q: exit %d\n%s", args, code, said)
		}
	}
	r := n.Run(t, n.Env, "follow", task.TaskID, "--stream-dir", blocked)
	if want := "is a directory; the task goes on\n"; r.Code != 1 || !strings.HasSuffix(r.Stderr, want) {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if states := listed(t, n, "scripted"); states[0] != "running" {
		t.Errorf("the tasks are %q", states)
	}

	system.Eventually(t, system.CallDeadline, "the stream is written to its file", func() bool {
		_, err := os.Stat(filepath.Join(vanished, "log"))
		return err == nil
	})
	if err := os.RemoveAll(vanished); err != nil {
		t.Fatal(err)
	}
	task.Interrupt()
	if end := task.Result(t); end.Code != 1 || !strings.Contains(end.Stderr, `write stream "log" to `+filepath.Join(vanished, "log")+": the file was removed meanwhile, ") {
		t.Errorf("exit %d\n%s", end.Code, end.Stderr)
	}
	n.Stop(t)
}

// TestFollowAnEndedStream: a stream that is over is named after the event that announces it.
func TestFollowAnEndedStream(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	call := n.Call(t, "scripted", "--text", steps(t, map[string]any{"write": map[string]any{"name": "log", "chunks": []any{"x"}}}), "--stream")
	if call.Code != 0 {
		t.Fatalf("exit %d\n%s", call.Code, call.Stderr)
	}
	r := n.Run(t, n.Env, "follow", call.Events[0].TaskID, "--stream", "--json")
	var got []string
	for line := range strings.Lines(r.Stdout) {
		var e struct{ Type, State, StreamEvent, Reason string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, strings.Join(strings.Fields(e.Type+" "+e.State+" "+e.StreamEvent+" "+e.Reason), " "))
	}
	want := "request, progress running, progress stream_started, stream_closed unavailable, terminal completed"
	if all := strings.Join(got, ", "); all != want || r.Code != 0 {
		t.Errorf("exit %d: %s, want %s\n%s", r.Code, all, want, r.Stderr)
	}
	n.Stop(t)
}

// TestConsumerKilledInStream: a consumer that is killed takes neither the task nor its stream with it. Others who come later
// read all that the network kept, to the end, on standard output and into files.
func TestConsumerKilledInStream(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	call := n.StartCall(t, "scripted", "--text", steps(t, map[string]any{"pace": map[string]any{"name": "log", "size": 10, "every": 0.2}}), "--stream")
	call.AwaitStream(t, "log") // the network keeps a hundred messages: those who follow have twenty seconds to come
	call.Kill()
	dir := t.TempDir()
	follow := func(args ...string) (*exec.Cmd, io.Reader) {
		cmd := exec.Command(n.Blocksd(), append([]string{"follow", call.TaskID}, args...)...)
		cmd.Env = append(system.CleanEnv(), n.Env...)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
		return cmd, out
	}
	filing, filed := follow("--stream-dir", dir)
	reading, read := follow("--stream", "--json")
	var text strings.Builder
	var last struct {
		Type, Text, State, Reason string
		Seq, Gaps                 int64
	}
	next, closed := int64(0), ""
	for lines := json.NewDecoder(read); ; {
		last.Type, last.Text = "", ""
		if err := lines.Decode(&last); err != nil {
			break
		}
		switch last.Type {
		case "stream":
			if last.Seq != next && last.Seq != next-1 { // several items of one message have its number
				t.Errorf("message %d after %d", last.Seq, next-1)
			}
			next = last.Seq + 1
			if text.WriteString(last.Text); next == 30 {
				if r := n.Run(t, n.Env, "calls", "cancel", call.TaskID); r.Code != 0 {
					t.Errorf("%+v", r)
				}
			}
		case "stream_closed":
			closed = fmt.Sprint(last.Reason, last.Gaps)
		}
	}
	_ = reading.Wait() // the code says it
	if code := reading.ProcessState.ExitCode(); code != 5 || closed != "ended0" || last.State != "canceled" {
		t.Errorf("exit %d, the stream %q, the task %q", code, closed, last.State)
	}
	_, _ = io.Copy(io.Discard, filed)
	_ = filing.Wait()
	if b, err := os.ReadFile(filepath.Join(dir, "log")); err != nil || string(b) != text.String() || filing.ProcessState.ExitCode() != 5 {
		t.Errorf("exit %d, %d bytes in the file, %d on standard output, %v", filing.ProcessState.ExitCode(), len(b), text.Len(), err)
	}
	n.Stop(t)
}

// TestInterruptedWhileStreamsLast: a shared stream goes on when its task has ended, and is read on for a while. An interrupt
// ends the reading; it cancels nothing, because nothing is left.
func TestInterruptedWhileStreamsLast(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	script := steps(t, map[string]any{"pace": map[string]any{"name": "feed", "size": 10, "every": 0.05}})
	other := n.StartCall(t, "scripted", "--text", script, "--pipe", "5")
	other.AwaitStatus(t) // it keeps the stream alive
	call := n.StartCall(t, "scripted", "--text", script, "--pipe", "5", "--stream")
	call.AwaitStream(t, "feed")
	if r := n.Run(t, n.Env, "calls", "cancel", call.TaskID); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := n.Run(t, n.Env, "follow", call.TaskID); r.Code != 5 {
		t.Fatalf("%+v", r)
	}
	call.AwaitItems(t, 150) // more than can come at once: by now it has heard of the end, too
	call.Interrupt()
	end := call.Result(t)
	last := end.Events[len(end.Events)-2:]
	if last[0].Type != "stream_closed" || last[0].Reason != "closed" || last[1].Type != "terminal" || last[1].State != "canceled" {
		t.Errorf("it ends with %+v", last)
	}
	if want := "blocksd: call scripted: task " + call.TaskID + " has ended, but stopped reading its streams before their end\n"; end.Code != 1 || end.Stderr != want {
		t.Errorf("exit %d: %s", end.Code, end.Stderr)
	}
	r := n.Run(t, n.Env, "follow", call.TaskID, "--stream", "--timeout", "30s") // which it does not need
	if r.Code != 5 || !strings.Contains(r.Stderr, "stream feed unavailable") {
		t.Errorf("%+v", r)
	}
	other.Interrupt()
	if end := other.Result(t); end.Code != 5 {
		t.Errorf("exit %d: %s", end.Code, end.Stderr)
	}
	n.Stop(t)
}

// TestSendStandardInput: what is on standard input goes into a stream, and what comes back into a file.
func TestSendStandardInput(t *testing.T) {
	n := scriptedDaemon(t)
	script := steps(t, map[string]any{"collect": map[string]any{"name": "upper", "digest": true}}, map[string]any{"write": map[string]any{"name": "log", "chunks": []any{"äö", map[string]any{"hex": "00ff"}}}}, map[string]any{"complete": true})
	dir, sent := t.TempDir(), strings.Repeat("line\n", 200_000)
	cmd := exec.Command(n.Blocksd(), "call", "scripted", "--text", script, "--pipe", "1", "--send", "upper=-", "--stream-dir", dir, "--save", dir)
	cmd.Env = append(system.CleanEnv(), n.Env...)
	cmd.Stdin = strings.NewReader(sent)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{"log": "äö\x00\xff", "artifact-0.txt": fmt.Sprintf("%d bytes %x", len(sent), sha256.Sum256([]byte(sent)))} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, want %q: %v", name, b, want, err)
		}
	}
	n.Stop(t)
}

// TestLargestItem: the largest event that a consumer may write reaches the handler; one byte more is refused in one
// sentence.
func TestLargestItem(t *testing.T) {
	n := scriptedDaemon(t, "--lossless") // it is many messages, and what stands still must not miss the hundred latest
	script := steps(t, map[string]any{"converse": map[string]any{"name": "chat", "digest": true}}, map[string]any{"complete": true})
	const largest = 16<<20 - 64<<10
	for _, size := range []int{largest, largest + 1, 16<<20 + 1} {
		path := filepath.Join(t.TempDir(), "events")
		event := `{"x":"` + strings.Repeat("y", size-len(`{"x":""}`)) + `"}`
		if err := os.WriteFile(path, []byte("{\"small\":1}\n"+event+"\n{\"say\":\"bye\"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, said := 0, fmt.Sprintf("{\"bytes\":11}\n{\"bytes\":%d}\n", largest), ""
		switch size {
		case largest + 1:
			code, out, said = 5, "{\"bytes\":11}\n", fmt.Sprintf(`an item has %d bytes, more than %d: split it`, size, largest)
		case 16<<20 + 1:
			code, out, said = 5, "{\"bytes\":11}\n", "line 2 has more than 16777216 bytes: split it"
		}
		cmd := exec.Command(n.Blocksd(), "call", "scripted", "--text", script, "--pipe", "1", "--stream", "--send", "chat="+path)
		cmd.Env = append(system.CleanEnv(), n.Env...)
		var stdout, stderr testutil.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, unless the test failed
		if size > largest {
			system.Eventually(t, system.CallDeadline, "the item is refused and the one before it answered", func() bool {
				return strings.Contains(stderr.String(), said) && stdout.String() == out
			})
			_ = cmd.Process.Signal(syscall.SIGINT) // the handler waits for more
		}
		_ = waitFor(t, cmd) // the code says it
		if got := cmd.ProcessState.ExitCode(); got != code || stdout.String() != out || !strings.Contains(stderr.String(), said) {
			t.Errorf("an event of %d bytes: exit %d, printed %q\n%s", size, got, stdout.String(), stderr.String())
		}
	}
	n.Stop(t)
}
