//go:build linux

package systemd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// arguments of the kernel. There is nobody at the consoles.
const arguments = "root=/dev/nvme0n1 rootfstype=ext4 rw console=ttyS0 loglevel=4 panic=-1 audit=0 mitigations=off " +
	"systemd.mask=serial-getty@ttyS0.service systemd.mask=getty.target systemd.mask=apt-daily.timer systemd.mask=apt-daily-upgrade.timer"

// prepared is what all machines of a run share.
type prepared struct {
	root
	payload string
}

func prepare(t *testing.T, full bool) prepared {
	t.Helper()
	p := prepared{root: debian(t), payload: filepath.Join(t.TempDir(), "payload.ext4")}
	payload(t, p.payload, full)
	return p
}

// machine is a computer with a disk of its own, which is on while its tests run.
type machine struct {
	prepared
	disk, console string
}

// machine makes one with a fresh Debian.
func (p prepared) machine(t *testing.T) machine {
	t.Helper()
	dir := t.TempDir()
	m := machine{p, filepath.Join(dir, "root.ext4"), filepath.Join(dir, "console")}
	command(t, "cp", "--sparse=always", "--reflink=auto", p.root.disk, m.disk)
	return m
}

// end is what happens to a machine when its tests have ended.
type end string

const (
	powerCut end = "cut from its power"
	reboot   end = "restarted in order"
)

// run boots the machine, has it run a test of package inside, and shows each step of that as a test.
func (m machine) run(t *testing.T, test string, then end, deadline time.Duration) {
	t.Helper()
	line := arguments + " blocksd.test=" + test
	if then == reboot {
		line += " " + thenReboot
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	// TCG, because KVM may be there and not work.
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-m", "1536", "-smp", "2",
		"-nodefaults", "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot",
		"-kernel", m.kernel, "-append", line,
		"-device", "nvme,serial=blocksd,id=nvme",
		"-drive", "if=none,id=root,format=raw,cache=unsafe,file="+m.disk, "-device", "nvme-ns,bus=nvme,nsid=1,drive=root",
		"-drive", "if=none,id=payload,format=raw,readonly=on,file="+m.payload, "-device", "nvme-ns,bus=nvme,nsid=2,drive=payload",
		"-serial", "file:"+m.console, "-serial", "stdio")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no machine outlives its test
	var said strings.Builder
	cmd.Stderr = &said
	serial, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &steps{test: test, began: time.Now()}
	err = s.read(ctx, t, serial)
	if then == powerCut || err != nil {
		cancel()
	}
	waited := cmd.Wait()
	switch {
	case then == reboot && err == nil && waited != nil:
		t.Errorf("the machine was to be restarted within %v: %v", deadline, waited)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded):
		console, _ := os.ReadFile(m.console)
		t.Errorf("the machine did not come to the end of %s within %v: %v, behind the step %q\n%s\n%s\nits console:\n%s",
			test, deadline, err, s.latest, strings.Join(s.rest, ""), said.String(), console[max(0, len(console)-8000):])
	case err != nil:
		t.Error(err)
	case !s.passed:
		t.Errorf("%s failed in the machine:\n%s", test, strings.Join(s.rest, ""))
	case s.count == 0:
		t.Errorf("%s has no steps", test)
	}
}

// steps are the tests below one test in the machine.
type steps struct {
	test   string
	began  time.Time
	count  int
	latest string
	passed bool
	output map[string][]string
	rest   []string // what belongs to no step
}

// event is a line of test2json.
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

// read takes what the machine writes until its tests have ended.
func (s *steps) read(ctx context.Context, t *testing.T, line io.Reader) error {
	convert := exec.CommandContext(ctx, "go", "tool", "test2json", "-t")
	in, err := convert.StdinPipe()
	if err != nil {
		return err
	}
	out, err := convert.StdoutPipe()
	if err != nil {
		return err
	}
	if err := convert.Start(); err != nil {
		return fmt.Errorf("start go tool test2json: %w", err)
	}
	copied := make(chan error, 1)
	go func() {
		defer in.Close()
		copied <- copyLines(in, line)
	}()
	events := json.NewDecoder(out)
	for {
		var e event
		if err = events.Decode(&e); err != nil {
			break
		}
		s.take(t, e)
	}
	_, _ = io.Copy(io.Discard, out)
	cutOff := <-copied
	if waited := convert.Wait(); errors.Is(err, io.EOF) {
		err = waited
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(cutOff, err)
}

// copyLines copies up to the last line.
func copyLines(to io.Writer, from io.Reader) error {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if strings.TrimSpace(line) == last {
			return nil
		}
		if _, wrote := io.WriteString(to, line); wrote != nil {
			return wrote
		}
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
}

// take makes a test of each step that has ended.
func (s *steps) take(t *testing.T, e event) {
	t.Helper()
	step, isStep := strings.CutPrefix(e.Test, s.test+"/")
	step, _, nested := strings.Cut(step, "/")
	switch {
	case e.Action == "output" && isStep:
		if s.output == nil {
			s.output = map[string][]string{}
		}
		s.output[step] = append(s.output[step], e.Output)
	case e.Action == "output":
		s.rest = append(s.rest, e.Output)
	case e.Action == "run" && isStep && !nested:
		s.latest = step
	case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
		if e.Test == s.test {
			s.passed = e.Action == "pass"
		}
		if !isStep || nested {
			return
		}
		s.count++
		t.Run(step, func(t *testing.T) {
			t.Logf("%.1f s in the machine, which is on for %.0f s", e.Elapsed, time.Since(s.began).Seconds())
			if e.Action != "pass" {
				t.Errorf("%sed in the machine:\n%s", e.Action, strings.Join(s.output[step], ""))
			}
		})
		delete(s.output, step)
	}
}
