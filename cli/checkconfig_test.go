package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCheckConfigNamesWhatIsMissing: what a configuration names and this machine does not have is a problem, each with its
// line.
func TestCheckConfigNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(in(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(in(name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("plugins/there", "#!/bin/sh\n")
	write("text", "no program")
	write("key", `"quoted"`)
	write("empty/README", "")
	write("project/agent-card.json", strings.Replace(parrotCard, `"parrot"`, `"shouts"`, 1))
	for _, c := range []struct {
		line string
		want []string // what follows the key, in the order of the report
	}{
		{"plugins: {dirs: [DIR/plugins]}", nil},
		{"plugins: {dirs: [DIR/gone]}", []string{`plugins.dirs": there is no directory DIR/gone`}},
		{"plugins: {dirs: [DIR/text]}", []string{`plugins.dirs": there is no directory DIR/text`}},
		{"network: {api_key_file: DIR/gone}", []string{`network.api_key_file": there is no file DIR/gone`}},
		{"network: {api_key_file: DIR/key}", []string{`network.api_key_file": API key file DIR/key must hold one key and nothing else, but the key is in quotes: leave them out`}},
		{"state_dir: DIR/text", []string{`state_dir": DIR/text is not a directory`}},
		{"control: {operator_group: no-such-group}", []string{`control.operator_group": there is no group no-such-group: create it, or name another one`}},
		{"handlers: [{name: x, path: DIR/gone}]", []string{`handlers[0].path": DIR/gone cannot be a handler because it cannot be read: no such file or directory`}},
		{"handlers: [{name: x, path: DIR/text}]", []string{`handlers[0].path": DIR/text cannot be a handler because it is not a program: it begins neither like an ELF file nor with #!`}},
		{"handlers: [{name: x, path: DIR/plugins}]", []string{`handlers[0].path": DIR/plugins cannot be a handler because it is not a file`}},
		{"plugins: {dirs: [DIR/plugins]}\nhandlers: [{name: there}, {name: gone}]", []string{`handlers[1].name": there is no program gone in DIR/plugins: put it there, or name it with path`}},
		{"handlers: [{name: x, path: /bin/sh, user: no-such-user}]", []string{`handlers[0].user": there is no user no-such-user: create it, or name another one`}},
		{"handlers: [{name: x, path: /bin/sh, user: '60700'}]", nil},
		{"handlers: [{name: x, path: /bin/sh, dir: DIR/gone, read_paths: [DIR/gone2], write_paths: [DIR/gone3]}]", []string{
			`handlers[0].dir": there is no directory DIR/gone`, `handlers[0].read_paths": there is no file or directory DIR/gone2`, `handlers[0].write_paths": there is no file or directory DIR/gone3`,
		}},
		{"handlers: [{name: x, path: /bin/sh, sha256: '" + strings.Repeat("0", 64) + "'}]", []string{`handlers[0].sha256": /bin/sh has another checksum, `}},
		{"handlers: [{name: x, path: /bin/sh, memory_mib: 5}]", []string{`handlers[0].memory_mib" must be at least 16, not 5: no handler starts with less`}},
		{"isolation: {memory_mib: 5}", []string{`isolation.memory_mib" must be 0, for no limit, or at least 16, not 5: no handler starts with less`}},
		{"projects: [DIR/gone]", []string{`projects": there is no directory DIR/gone`}},
		{"projects: [DIR/text]", []string{`projects": there is no directory DIR/text`}},
		{"projects: [DIR/empty]", []string{`projects": DIR/empty cannot be served: read agent card DIR/empty/agent-card.json: there is no such file`}},
		{"projects: [DIR/project]", []string{`projects": DIR/project cannot be served: /runtime/handler: handler `}},
		{"isolation: {launcher: DIR/gone}", []string{`isolation.launcher": there is no socket DIR/gone: start the launcher that listens there, or name another one`}},
		{"isolation: {launcher: DIR/text}", []string{`isolation.launcher": DIR/text is not a socket: name the one of a launcher`}},
		{"isolation: {launcher: ''}", nil},
		// All at once, and of each line one.
		{"log: {levle: info}\nstate_dir: DIR/text\nisolation: {memory_mib: 5}\nhandlers:\n- {name: x, path: DIR/gone, nice: 1}\n- {name: y, path: DIR/gone}\nagents: [{card: DIR/gone}]", []string{
			`log.levle" is unknown, did you mean "log.level"?`,
			`isolation.memory_mib" must be 0, for no limit, or at least 16, not 5: no handler starts with less`,
			`handlers[0].nice" is unknown, `,
			`state_dir": DIR/text is not a directory`,
			`handlers[1].path": DIR/gone cannot be a handler because it cannot be read: no such file or directory`,
			"", // the card, which is no key
		}},
		{"telemetry: {listen: 'unix:DIR/gone/s'}", []string{`telemetry.listen": there is no directory DIR/gone`}},
	} {
		text := strings.ReplaceAll(c.line, "DIR", dir) + "\n"
		write("c.yaml", text)
		r := runCLI(t, nil, Interrupts{}, "check", "--config", in("c.yaml"))
		var got, want []string
		for line := range strings.Lines(r.stderr) {
			_, problem, _ := strings.Cut(line, `key "`)
			got = append(got, strings.TrimSuffix(problem, "\n"))
		}
		for i, w := range c.want {
			want = append(want, strings.ReplaceAll(w, "DIR", dir))
			if i < len(got) && strings.HasSuffix(w, " ") { // the rest differs
				got[i] = got[i][:min(len(got[i]), len(want[i]))]
			}
		}
		code := 0
		if want != nil {
			code = exitUsage
		}
		if d := cmp.Diff(want, got); d != "" || r.code != code {
			t.Errorf("%s: exit %d\n%s", c.line, r.code, d)
		}
	}
	// A handler may be that of a project.
	write("project/handler.py", "")
	write("project/agent-card.json", strings.Replace(strings.Replace(parrotCard, `"parrot"`, `"shouts"`, 1), `"main.go"`, `"handler.py"`, 1))
	write("c.yaml", fmt.Sprintf("projects: [%s]\nagents: [{card: %s, handler: shouts}]\n", in("project"), in("project/agent-card.json")))
	if r := runCLI(t, nil, Interrupts{}, "check", "--config", in("c.yaml")); r.code != 0 {
		t.Errorf("%+v", r)
	}
}
