//go:build linux

package launch

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// prlimit64 is the call that sets limits of other processes, by architecture as the kernel's filters know it. A process may
// do that to any other of its user, the daemon for one, and a limit can kill like a signal; neither landlock nor a mount
// namespace keeps it from that.
var prlimit64 = map[string][]struct{ arch, number uint32 }{
	"amd64": {{unix.AUDIT_ARCH_X86_64, 302}, {unix.AUDIT_ARCH_X86_64, 302 | 0x40000000}, {unix.AUDIT_ARCH_I386, 340}},
	"arm64": {{unix.AUDIT_ARCH_AARCH64, 261}, {unix.AUDIT_ARCH_ARM, 369}},
}

// Where a filter finds things. The architectures above are little-endian.
const (
	atNumber    = 0
	atArch      = 4
	atPID       = 16
	atLimit     = 32 // the address of the new limit
	atLimitHigh = 36
)

// keepLimitsOfOthers keeps this thread, and whatever it executes, from setting limits of any process but itself. A kernel
// without filters lets it.
func keepLimitsOfOthers() error {
	calls := prlimit64[runtime.GOARCH]
	if len(calls) == 0 {
		return nil
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	// equal skips so many further steps when what was loaded is, or is not, a number.
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	var program []unix.SockFilter
	for _, c := range calls { // another call is looked for behind both answers
		program = append(program,
			load(atArch), equal(c.arch, 0, 10),
			load(atNumber), equal(c.number, 0, 8),
			load(atPID), equal(0, 4, 0),
			load(atLimit), equal(0, 0, 3),
			load(atLimitHigh), equal(0, 0, 1),
			answer(unix.SECCOMP_RET_ALLOW),
			answer(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)),
		)
	}
	program = append(program, answer(unix.SECCOMP_RET_ALLOW))
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
