//go:build linux

package launch

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scheduling is a stand-in for a handler that sets priority and scheduling of the process that LAUNCH_TEST_SCHEDULING names, and
// of itself, and prints which of that it may not.
func scheduling() {
	pid, err := strconv.Atoi(os.Getenv("LAUNCH_TEST_SCHEDULING"))
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	runtime.LockOSThread()
	own := os.Getpid()
	var param struct{ priority int32 }
	attributes := unix.SchedAttr{Size: unix.SizeofSchedAttr, Nice: 19} // which nobody is refused, however nice the tests run
	var processors unix.CPUSet
	if err := unix.SchedGetaffinity(0, &processors); err != nil {
		fmt.Println("error:", err)
	}
	call := func(number uintptr, args ...uintptr) error {
		args = append(args, 0, 0)
		if _, _, errno := unix.Syscall(number, args[0], args[1], args[2]); errno != 0 {
			return errno
		}
		return nil
	}
	setParam := func(pid int) error {
		return call(unix.SYS_SCHED_SETPARAM, uintptr(pid), uintptr(unsafe.Pointer(&param)))
	}
	setScheduler := func(pid int) error {
		return call(unix.SYS_SCHED_SETSCHEDULER, uintptr(pid), unix.SCHED_BATCH, uintptr(unsafe.Pointer(&param)))
	}
	setIOPriority := func(which, who int) error {
		return call(unix.SYS_IOPRIO_SET, uintptr(which), uintptr(who), 3<<13) // idle
	}
	for _, c := range []struct {
		name string
		err  error
	}{
		{"nice", unix.Setpriority(unix.PRIO_PROCESS, pid, 1)},
		{"nice-group", unix.Setpriority(unix.PRIO_PGRP, pid, 1)},
		{"nice-user", unix.Setpriority(unix.PRIO_USER, os.Getuid(), 1)},
		{"nice-own-user", unix.Setpriority(unix.PRIO_USER, 0, 1)},
		{"param", setParam(pid)},
		{"scheduler", setScheduler(pid)},
		{"attributes", unix.SchedSetAttr(pid, &attributes, 0)},
		{"io", setIOPriority(1, pid)},
		{"io-group", setIOPriority(2, pid)},
		{"io-own-user", setIOPriority(3, 0)},

		{"own-nice", unix.Setpriority(unix.PRIO_PROCESS, 0, 19)},
		{"own-nice-group", unix.Setpriority(unix.PRIO_PGRP, 0, 19)},
		{"own-param", setParam(0)},
		{"own-scheduler", setScheduler(0)},
		{"own-attributes", unix.SchedSetAttr(0, &attributes, 0)},
		{"own-io", setIOPriority(1, 0)},
		{"own-processors", unix.SchedSetaffinity(own, &processors)},
	} {
		if c.err == unix.EPERM {
			fmt.Print(c.name, " ")
		} else if c.err != nil {
			fmt.Print(c.name, ":", c.err, " ")
		}
	}
	fmt.Println()
}

// A handler sets no priority and no scheduling of a process of the same user, and its own as it likes.
func TestPriorityOfOthers(t *testing.T) {
	eachWall(t, func(t *testing.T, l Limits) {
		s, m := spawner(t), machine(t)
		victim := shell(t, s, "echo ready; exec sleep 600")
		readLine(t, victim.Stdout)
		out := output(t, s, Spec{Plan: plan(t, l, m), Env: []string{fmt.Sprint("LAUNCH_TEST_SCHEDULING=", victim.PID())}}, m.Shim)
		if want := "nice nice-group nice-user nice-own-user param scheduler attributes io io-group io-own-user"; out != want {
			t.Errorf("refused: %s\nwant:    %s", out, want)
		}
	})
}

// What runtimes do with their own threads goes on behind walls: each starts, and has several.
func TestRuntimesBehindWalls(t *testing.T) {
	eachWall(t, func(t *testing.T, l Limits) {
		s, m := spawner(t), machine(t)
		for name, line := range map[string]string{
			"python3": `python3 -c 'import os, threading; os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0)); os.nice(1); t = threading.Thread(target=print, args=["fine"]); t.start(); t.join()'`,
			"node":    `node -e 'const os = require("os"), { Worker } = require("worker_threads"); os.setPriority(19); new Worker("require(\"worker_threads\").parentPort.postMessage(1)", { eval: true }).on("message", () => console.log("fine"))'`,
			"java":    `java -Xmx32m -version >/dev/null 2>&1 && echo fine`,
		} {
			path, err := exec.LookPath(name)
			if err != nil || strings.Contains(path, "shims") {
				path = "/usr/bin/" + name
			}
			script := strings.Replace(line, name, path, 1)
			if out := output(t, s, Spec{}, script); out != "fine" {
				t.Logf("%s does not work here: %s", name, out)
				continue
			}
			if out := output(t, s, Spec{Plan: plan(t, l, m)}, script); out != "fine" {
				t.Errorf("%s: %s", name, out)
			}
		}
	})
}
