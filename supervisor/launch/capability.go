package launch

import (
	"errors"

	"golang.org/x/sys/unix"
)

// rootMay are the capabilities that remain to a handler that runs as root behind walls: what programs of root use for
// files, users and ports of their own. Those with which a process mounts, reads memory of others, makes devices, loads code
// into the kernel or lifts its limits are not among them.
var rootMay = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SYS_CHROOT, unix.CAP_AUDIT_WRITE, unix.CAP_SETFCAP,
}

// capabilitySet is a set in the form of the kernel.
func capabilitySet(all []uintptr) (set [2]uint32) {
	for _, c := range all {
		set[c/32] |= 1 << (c % 32)
	}
	return set
}

// boundCapabilities keeps this thread, and whatever it executes, from ever getting others than those listed. It must come
// before a change of user, which takes away the right to.
func boundCapabilities(kept []uintptr) error {
	keep := capabilitySet(kept)
	for c := uintptr(0); c <= 63; c++ {
		if keep[c/32]&(1<<(c%32)) != 0 {
			continue
		}
		// EINVAL is for what this kernel does not know; EPERM is for a process that has none to give up.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // a kernel without it has none
	return nil
}

// keepCapabilities gives up all capabilities that this thread has but those listed.
func keepCapabilities(kept []uintptr) error {
	keep := capabilitySet(kept)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var has [2]unix.CapUserData
	if err := unix.Capget(&header, &has[0]); err != nil {
		return err
	}
	before := has
	for i := range has {
		has[i].Effective &= keep[i]
		has[i].Permitted &= keep[i]
		has[i].Inheritable = 0
	}
	if has == before { // filters of system calls, that of the unit for one, do not even let go of nothing
		return nil
	}
	return unix.Capset(&header, &has[0])
}
