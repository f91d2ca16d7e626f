package inside_test

import (
	"os"
	"strings"
	"testing"
)

// upgrade: a new package is installed while the service serves. Tasks end, and what the operator has changed stays.
func upgrade(t *testing.T) {
	const own = "/etc/blocksd/blocksd.yaml"
	write(t, own, "drain: 33s\n")
	old, before := status(t).Version, property(t, "MainPID")
	tasks := submit(t, "5s")
	running(t, tasks)
	ok(t, "sh", "-c", "DEBIAN_FRONTEND=noninteractive dpkg -i "+project+"/next/blocksd_*_amd64.deb </dev/null")
	if count := ends(t, tasks); count["completed"] != len(tasks) {
		t.Errorf("ends: %v", count)
	}
	if after := status(t); after.Version == old || property(t, "MainPID") == before {
		t.Errorf("it is still version %s", after.Version)
	}
	if b, err := os.ReadFile(own); err != nil || string(b) != "drain: 33s\n" {
		t.Errorf("the configuration is now %q, %v", b, err)
	}
}

// removal stops the service, and leaves what is owed to others.
func removal(t *testing.T) {
	ok(t, "dpkg", "-r", "blocksd")
	if s := run(t, "systemctl", "is-active", "blocksd").out; strings.TrimSpace(s) != "inactive" {
		t.Errorf("the service is %s", s)
	}
	if left := processes(t); len(left) > 0 {
		t.Errorf("there are still %q", left)
	}
	for _, path := range []string{state + "/journal.db", state + "/journal.key", "/etc/blocksd/api-key"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat("/usr/bin/blocksd"); err == nil {
		t.Error("the program is still there")
	}
}
