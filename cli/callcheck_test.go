package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/card"
)

// TestCallRefuses: what cannot be right is reported in one sentence, and nothing is sent.
func TestCallRefuses(t *testing.T) {
	env := startParrot(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file.txt")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string // the whole sentence
	}{
		{"an unknown part", nil, []string{"--part", "wrods=x"}, `call parrot: the agent's card has no input "wrods", did you mean "words"? (--force sends it anyway)`},
		{"a part unlike any", nil, []string{"x", "--part", "zzzzzzzz=x"}, `call parrot: the agent's card has no input "zzzzzzzz": it has words (--force sends it anyway)`},
		{"a file for a text", nil, []string{"--file", "words=" + file}, `call parrot: input words is text (text/plain), not a file: use --text or --part (--force sends it anyway)`},
		{"a required input left out", nil, nil, `call parrot: the agent needs input words (text/plain): give it with --text or --part (--force sends it anyway)`},
		{"text twice", nil, []string{"x", "--text", "y"}, "call parrot: the text is given twice, as an argument and with --text or --json-part"},
		{"one input twice", nil, []string{"x", "--part", "words=y"}, "call parrot: part words is given twice"},
		{"text that is not UTF-8", nil, []string{"--text", "caf\xe9"}, `call: invalid argument "caf\xe9" for "--text" flag: the text is not valid UTF-8: put it into a file and send that with --file`},
		{"an argument that is not UTF-8", nil, []string{"caf\xe9"}, "call parrot: the text is not valid UTF-8: put it into a file and send that with --file"},
		{"a part that is not UTF-8", nil, []string{"--part", "words=caf\xe9"}, `call: invalid argument "words=caf\xe9" for "--part" flag: the text is not valid UTF-8: put it into a file and send that with --file`},
		{"JSON that is not UTF-8", nil, []string{"--json-part", "\"caf\xe9\""}, `call: invalid argument "\"caf\xe9\"" for "--json-part" flag: the text is not valid UTF-8: put it into a file and send that with --file`},
		{"an idempotency key that is not UTF-8", nil, []string{"x", "--idempotency-key", "caf\xe9"}, "call parrot: --idempotency-key is not valid UTF-8: choose another key"},
		{"no time", nil, []string{"x", "--timeout", "0s"}, "call parrot: --timeout must be more than 0, not 0s"},
		{"a pipe of no time", nil, []string{"x", "--pipe", "0"}, "call parrot: --pipe must be from 1 to 43200 minutes, not 0"},
		{"a pipe of too long a time", nil, []string{"x", "--pipe", "43201"}, "call parrot: --pipe must be from 1 to 43200 minutes, not 43201"},
		{"a directory below a file", nil, []string{"x", "--save", file + "/out"}, "call parrot: artifacts cannot be saved in " + file + "/out: not a directory"},
		{"a file as directory", nil, []string{"x", "--save", file}, "call parrot: artifacts cannot be saved in " + file + ": not a directory"},
		{"a quoted key", []string{`BLOCKS_API_KEY="bk_secret"`}, []string{"x"}, "call parrot: the variable BLOCKS_API_KEY does not hold an API key: the key is in quotes: leave them out"},
		{"a key of two words", []string{"BLOCKS_API_KEY=bk secret"}, []string{"x"}, "call parrot: the variable BLOCKS_API_KEY does not hold an API key: it has more than one word or line"},
		{"a key with a control character", []string{"BLOCKS_API_KEY=bk\x01secret"}, []string{"x"}, "call parrot: the variable BLOCKS_API_KEY does not hold an API key: it has characters that are not visible ASCII"},
		{"a blank key", []string{"BLOCKS_API_KEY= "}, []string{"x"}, "call parrot: there is no API key: set BLOCKS_API_KEY, or log in with blocks login"},
		{"an address without a host", []string{"BLOCKS_CDM_URL=localhost:80"}, []string{"x"}, `call parrot: the variable BLOCKS_CDM_URL must be an http or https address, not "localhost:80"`},
		{"an address of another protocol", []string{"BLOCKS_BACKEND_URL=ftp://h"}, []string{"x"}, `call parrot: the variable BLOCKS_BACKEND_URL must be an http or https address, not "ftp://h"`},
		{"an origin with a scheme", []string{"BLOCKSD_PUBNUB_ORIGIN=http://h"}, []string{"x"}, `call parrot: the variable BLOCKSD_PUBNUB_ORIGIN must be host:port without a scheme, not "http://h"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := runCLI(t, append(env, c.env...), Interrupts{}, append([]string{"call", "parrot"}, c.args...)...)
			if r.code != exitUsage || r.stdout != "" || r.stderr != "blocksd: "+c.want+"\n" {
				t.Errorf("exit %d, stdout %q\ngot  %swant blocksd: %s", r.code, r.stdout, r.stderr, c.want)
			}
		})
	}
	t.Run("forced", func(t *testing.T) {
		r := runCLI(t, env, Interrupts{}, "call", "parrot", "--part", "wrods=x", "--force")
		if !strings.HasPrefix(r.stdout, "task task_") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("text as an argument", func(t *testing.T) {
		r := runCLI(t, env, Interrupts{}, "call", "parrot", "hello")
		if r.code != 0 || !strings.Contains(r.stdout, "says hello") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a key in a line of its own", func(t *testing.T) {
		key := (&app{Invocation: Invocation{Env: env}}).getenv("BLOCKS_API_KEY")
		r := runCLI(t, append(env, "BLOCKS_API_KEY=\ufeff"+key+"\n"), Interrupts{}, "call", "parrot", "hello")
		if r.code != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a directory that nobody may write to", func(t *testing.T) {
		closed, why := "/proc", "" // root may write to every other directory
		if os.Geteuid() != 0 {
			closed, why = filepath.Join(dir, "closed"), "permission denied\n"
			if err := os.Mkdir(closed, 0o500); err != nil {
				t.Fatal(err)
			}
		}
		r := runCLI(t, env, Interrupts{}, "call", "parrot", "x", "--save", closed)
		if r.code != exitUsage || r.stdout != "" || !strings.HasPrefix(r.stderr, "blocksd: call parrot: artifacts cannot be saved in "+closed+": "+why) {
			t.Errorf("%+v", r)
		}
	})
}

func TestCheckParts(t *testing.T) {
	inputs := []card.Input{
		{ID: "message", ContentType: "text/plain"}, {ID: "operands", ContentType: "application/json", Required: true}, {ID: "photo", ContentType: "image/png", Required: true},
	}
	message, operands, photo := client.Text("message", "x"), client.JSON("operands", 1), client.File("photo", "x.png")
	for _, c := range []struct {
		name  string
		parts []client.Part
		want  string
	}{
		{"all", []client.Part{message, operands, photo}, ""},
		{"those that are needed", []client.Part{operands, photo}, ""},
		{"text for a form", []client.Part{client.Text("operands", "x"), photo}, ""},
		{"no form", []client.Part{message, photo}, "the agent needs input operands (application/json): give it with --json-part or --part"},
		{"no file", []client.Part{operands}, "the agent needs input photo (image/png): give it with --file"},
		{"text for a file", []client.Part{operands, client.Text("photo", "x")}, "input photo is a file (image/png): use --file"},
		{"a file for a form", []client.Part{client.File("operands", "x.json"), photo}, "input operands is JSON (application/json), not a file: use --json-part or --part"},
	} {
		if got := checkParts(inputs, c.parts); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if got := checkParts(nil, []client.Part{message}); got != "" {
		t.Errorf("a card without inputs: %q", got)
	}
}

// What was attempted is said once.
func TestNotSubmitted(t *testing.T) {
	o := callOptions{agent: "echo"}
	for _, c := range []struct{ err, want string }{
		{"no answer", "call echo: no answer"}, {"send a task to agent echo: no answer", "send a task to agent echo: no answer"},
	} {
		if got := o.notSubmitted(t.Context(), errors.New(c.err)); got.Error() != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := o.notSubmitted(t.Context(), usagef("call echo: no")); got.Error() != "call echo: no" || exitCode(got) != exitUsage {
		t.Errorf("got %q, exit %d", got, exitCode(got))
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 byte", 2: "2 bytes", 1536: "1.5 KiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
