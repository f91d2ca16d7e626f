//go:build linux

package launch

import (
	"errors"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process may set limits, priority and scheduling of every other one of its user, the daemon for one, and a limit can kill like
// a signal; neither landlock nor a mount namespace keeps it from that. So a filter refuses the calls that name another process.
// It sees numbers and no processes: sched_setaffinity must stay, because programs name their own threads in it.

// filterOf are the refused calls of one architecture as the kernel's filters know it, by their numbers.
type filterOf struct{ arch, prlimit, setPriority, setParam, setScheduler, setAttributes, setIOPriority uint32 }

// filters by the architecture that blocksd is built for: the kernel also runs programs of the 32-bit one. All are little-endian.
var filters = map[string][]filterOf{
	"amd64": {{unix.AUDIT_ARCH_X86_64, 302, 141, 142, 144, 314, 251}, {unix.AUDIT_ARCH_I386, 340, 97, 154, 156, 351, 289}},
	"arm64": {{unix.AUDIT_ARCH_AARCH64, 261, 140, 118, 119, 274, 30}, {unix.AUDIT_ARCH_ARM, 369, 97, 154, 156, 380, 314}},
}

// Where a filter finds things.
const (
	atNumber     = 0
	atArch       = 4
	atFirst      = 16 // arguments
	atSecond     = 24
	atThird      = 32
	atThirdsHigh = 36
)

const (
	ofUser   = 2                // setpriority: every process of a user
	ofIOUser = 3                // ioprio_set
	sameCall = ^uint32(1 << 30) // x32 has the numbers of amd64 with this bit
)

func load(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

// equal skips so many further steps when what was loaded is, or is not, a number.
func equal(k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
}

func answer(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

var (
	allow  = answer(unix.SECCOMP_RET_ALLOW)
	refuse = answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
)

// The steps for a call, each of which ends with an answer.
var (
	// ifFirst refuses what names a process in its first argument.
	ifFirst = []unix.SockFilter{load(atFirst), equal(0, 0, 1), allow, refuse}
	// ifLimit does so unless a limit is only asked for: there is no address of a new one.
	ifLimit = []unix.SockFilter{load(atFirst), equal(0, 4, 0), load(atThird), equal(0, 0, 3), load(atThirdsHigh), equal(0, 0, 1), allow, refuse}
)

// ifSecond refuses what names a process or group in its second argument, and what is for all of a user, own or not.
func ifSecond(user uint32) []unix.SockFilter {
	return []unix.SockFilter{load(atFirst), equal(user, 3, 0), load(atSecond), equal(0, 0, 1), allow, refuse}
}

// program is the whole filter.
func program(of []filterOf) []unix.SockFilter {
	var all []unix.SockFilter
	for _, f := range of {
		calls := []unix.SockFilter{load(atNumber), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: sameCall}}
		for _, c := range []struct {
			number uint32
			steps  []unix.SockFilter
		}{
			{f.prlimit, ifLimit},
			{f.setPriority, ifSecond(ofUser)}, {f.setIOPriority, ifSecond(ofIOUser)},
			{f.setParam, ifFirst}, {f.setScheduler, ifFirst}, {f.setAttributes, ifFirst},
		} {
			calls = append(append(calls, equal(c.number, 0, len(c.steps))), c.steps...)
		}
		calls = append(calls, allow)
		all = slices.Concat(all, []unix.SockFilter{load(atArch), equal(f.arch, 0, len(calls))}, calls)
	}
	return append(all, allow)
}

// leaveOthersAlone keeps this thread, and whatever it executes, from setting limits, priority and scheduling of any process but
// itself. A kernel without filters lets it.
func leaveOthersAlone() error {
	of := filters[runtime.GOARCH]
	if len(of) == 0 {
		return nil
	}
	steps := program(of)
	filter := unix.SockFprog{Len: uint16(len(steps)), Filter: &steps[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
