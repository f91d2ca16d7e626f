package logging_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/daemon/logging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A duration has a unit, also in JSON.
func TestDurations(t *testing.T) {
	for _, c := range []struct {
		config logging.Config
		want   string
	}{
		{logging.Config{Level: "info", Format: "json"}, `"took":"1.5s","group":{"wait":"2ms"}}`},
		{logging.Config{Level: "info", Format: "json", Journal: true}, `"took":"1.5s","group":{"wait":"2ms"}}`},
		{logging.Config{Level: "info", Format: "text"}, `took=1.5s group.wait=2ms`},
	} {
		var out bytes.Buffer
		c.config.Writer = &out
		log, _, err := logging.New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("done", "took", 1500*time.Millisecond, slog.Group("group", "wait", 2*time.Millisecond))
		if got := strings.TrimSpace(out.String()); !strings.HasSuffix(got, c.want) {
			t.Errorf("%s: got %s, want %s at the end", c.config.Format, got, c.want)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct {
		name   string
		config logging.Config
		want   string
	}{
		{"auto", logging.Config{Level: "info", Format: "auto"}, `{"time":T,"level":"INFO","msg":"hello","agent":"a"}`},
		{"auto on a terminal", logging.Config{Level: "info", Format: "auto", Terminal: true}, `time=T level=INFO msg=hello agent=a`},
		{"auto in the journal", logging.Config{Level: "info", Format: "auto", Journal: true}, `<6>level=INFO msg=hello agent=a`},
		{"JSON in the journal", logging.Config{Level: "debug", Format: "json", Journal: true}, "<7>{\"level\":\"DEBUG\",\"msg\":\"quiet\"}\n<6>{\"level\":\"INFO\",\"msg\":\"hello\",\"agent\":\"a\"}"},
		{"nothing", logging.Config{Level: "error", Format: "text"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			c.config.Writer = &out
			log, _, err := logging.New(c.config)
			if err != nil {
				t.Fatal(err)
			}
			log.Debug("quiet")
			log.With("agent", "a").Info("hello")
			got := strings.TrimSpace(out.String())
			if i := strings.Index(got, "time"); i >= 0 { // the time is not reproducible
				sep := strings.IndexAny(got[i:], "=:") + 1
				end := strings.IndexAny(got[i+sep:], " ,")
				got = got[:i+sep] + "T" + got[i+sep+end:]
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestLevelChangesAtRunTime(t *testing.T) {
	var out bytes.Buffer
	log, level, err := logging.New(logging.Config{Writer: &out, Level: "warn", Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("one")
	level.Set(slog.LevelInfo)
	log.Info("two")
	if s := out.String(); strings.Contains(s, "one") || !strings.Contains(s, "two") {
		t.Errorf("logged %q", s)
	}
}

func TestWrongSettings(t *testing.T) {
	for _, c := range []logging.Config{{Level: "loud", Format: "text"}, {Level: "info", Format: "xml"}} {
		c.Writer = io.Discard
		if _, _, err := logging.New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// Records of several goroutines must not mix, each with the priority of its own level.
func TestJournalRecordsAreWhole(t *testing.T) {
	var out bytes.Buffer
	log, _, err := logging.New(logging.Config{Writer: &out, Level: "info", Format: "text", Journal: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				log.Info("six")
				log.WithGroup("g").Error("three", "k", 1)
			}
		})
	}
	wg.Wait()
	for line := range strings.Lines(out.String()) {
		if line != "<6>level=INFO msg=six\n" && line != "<3>level=ERROR msg=three g.k=1\n" {
			t.Fatalf("line %q", line)
		}
	}
}

func TestInJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if !logging.InJournal(w, fmt.Sprintf("%d:%d", st.Dev, st.Ino)) {
		t.Error("the stream itself is not recognised")
	}
	for _, s := range []string{"", "x", fmt.Sprintf("%d:%d", st.Dev, st.Ino+1)} {
		if logging.InJournal(w, s) {
			t.Errorf("recognised by %q", s)
		}
	}
	if logging.IsTerminal(w) {
		t.Error("a pipe is a terminal")
	}
}
