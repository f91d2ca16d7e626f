package plug

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// TestSoonOutlastsAStandstill: what comes a moment after the machine stood still for longer than the limit is not missed.
func TestSoonOutlastsAStandstill(t *testing.T) {
	const limit = 2 * time.Second
	c := make(chan string, 1)
	go func() {
		for range 20 { // it needs time to run
			time.Sleep(10 * time.Millisecond)
		}
		c <- "last line"
	}()
	stop := exec.Command("sh", "-c", `kill -STOP "$0"; sleep 3; kill -CONT "$0"`, strconv.Itoa(os.Getpid()))
	if err := stop.Start(); err != nil {
		t.Fatal(err)
	}
	if line, ok := soon(c, limit); !ok || line != "last line" {
		t.Errorf("%q, %t", line, ok)
	}
	if err := stop.Wait(); err != nil {
		t.Error(err)
	}
}
