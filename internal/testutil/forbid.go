//go:build linux

package testutil

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidVariable holds "ERRNO CALL CALL …", in numbers, for a test process that begins without these system calls.
const forbidVariable = "TESTUTIL_FORBID"

// WithoutCalls runs tests of this package again, in a process in which the kernel answers the system calls with errno, as
// under a unit of systemd that forbids them. The package's TestMain must call ForbidCalls first.
func WithoutCalls(t *testing.T, errno syscall.Errno, calls []int, tests ...string) {
	t.Helper()
	value := strconv.Itoa(int(errno))
	for _, c := range calls {
		value += " " + strconv.Itoa(c)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^("+strings.Join(tests, "|")+")$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), forbidVariable+"="+value)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("without system calls %v (%v): %v\n%s", calls, errno, err, out)
	}
	for _, test := range tests {
		t.Run(test, func(t *testing.T) {
			own := regexp.MustCompile(`(?ms)^=== RUN +` + test + `$.*?^--- (PASS|SKIP|FAIL): ` + test + ` `).FindSubmatch(out)
			switch {
			case own == nil:
				t.Error("there is no such test")
			case string(own[1]) == "FAIL":
				t.Fail()
			case string(own[1]) == "SKIP":
				t.Skip(string(regexp.MustCompile(`machine: .*`).Find(own[0])))
			}
		})
	}
}

// CallsForbidden reports whether WithoutCalls has started this process.
func CallsForbidden() bool { return os.Getenv(forbidVariable) != "" }

// forbidden marks a process that has its filter.
const forbidden = "TESTUTIL_FORBIDDEN"

// ForbidCalls sets the filter that WithoutCalls asks for, and starts the program once more in this process: only so does a
// filter hold for all threads. It does nothing in other processes.
func ForbidCalls() {
	value := os.Getenv(forbidVariable)
	if value == "" || os.Getenv(forbidden) == value {
		return
	}
	runtime.LockOSThread()
	if err := forbid(strings.Fields(value)); err != nil {
		panic(fmt.Sprintf("forbid system calls %s: %v", value, err))
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, append(os.Environ(), forbidden+"="+value))
	}
	panic(fmt.Sprintf("start again without system calls: %v", err))
}

// forbid makes the kernel answer calls of this thread with an error, both given as numbers, the error first.
func forbid(numbers []string) error {
	var n []uint32
	for _, s := range numbers {
		v, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return err
		}
		n = append(n, uint32(v))
	}
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the call
	for i, call := range n[1:] {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jt: uint8(len(n) - 1 - i)})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | n[0]})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0)
}
