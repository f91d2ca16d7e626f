package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Every key that is changed alone is found, and is applied unless it needs a restart of the daemon. A new key is in this
// test without being named.
func TestEveryKeyCanChange(t *testing.T) {
	before := Default()
	before.Handlers = []Handler{{Name: "echo", Instances: 1, ProcessLimits: before.Isolation.ProcessLimits}}
	before.Agents = []Agent{{Card: "/cards/a.json"}}
	for i, f := range flatten(before) {
		if strings.HasSuffix(f.path, "].name") || strings.HasSuffix(f.path, "].card") {
			continue // another name is another entry
		}
		after := before
		after.Handlers, after.Agents = slices.Clone(before.Handlers), slices.Clone(before.Agents)
		change(flattenStruct("", "", reflect.ValueOf(&after).Elem())[i].value)
		changes := Changes(before, after)
		if len(changes) != 1 || changes[0].Needs != f.reload || changes[0].Old == changes[0].New {
			t.Errorf("%s: %+v", f.path, changes)
			continue
		}
		want := after
		if f.reload == NeedsDaemon {
			want = before
		}
		if d := cmp.Diff(want, Applicable(before, after), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s, which needs %s: %s", f.path, f.reload, d)
		}
	}
}

func change(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Duration:
		v.SetInt(v.Int() + int64(time.Second))
	case int:
		v.SetInt(v.Int() + 1)
	case float64:
		v.SetFloat(v.Float() / 2)
	case bool:
		v.SetBool(!v.Bool())
	case string:
		v.SetString(v.String() + "x")
	case []string:
		v.Set(reflect.ValueOf([]string{"other"}))
	default:
		panic(fmt.Sprintf("a key has the type %s", v.Type()))
	}
}

func TestChangesOfEntries(t *testing.T) {
	load := func(text string) Config {
		t.Helper()
		c, _, err := Load(Sources{File: write(t, text)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := load("handlers: [{name: a}, {name: b, files: 99}]\nagents: [{card: /a.json}]")
	after := load("isolation: {files: 77}\nhandlers: [{name: c}, {name: b, files: 99, args: [--token=secret, -v]}]\nagents: [{card: /a.json, concurrency: 3}]")
	want := []Change{
		{"agents[/a.json].concurrency", NeedsNothing, "0", "3"},
		{"handlers[c]", NeedsHandler, "none", "added"},
		{"handlers[b].args", NeedsHandler, "[]", `["--token=(hidden)", -v]`},
		{"isolation.files", NeedsHandler, "8192", "77"},
		{"handlers[a]", NeedsHandler, "there", "removed"},
	}
	if d := cmp.Diff(want, Changes(before, after)); d != "" {
		t.Error(d)
	}
	// Entries that go with the table that they inherit from are not said again.
	got := Changes(load("handlers: [{name: a}]"), load("handlers: [{name: a}]\nisolation: {files: 77}"))
	if d := cmp.Diff([]Change{{"isolation.files", NeedsHandler, "8192", "77"}}, got); d != "" {
		t.Error(d)
	}
	if got := Changes(before, before); got != nil {
		t.Errorf("nothing has changed: %v", got)
	}
}

func TestValues(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "blocksd.yaml")
	fragments := FragmentsOf(main)
	for path, text := range map[string]string{
		main:                                      "drain: 1m\nenvironment: [A]\nhandlers:\n- name: a\n  instances: 2\n- name: b\n",
		filepath.Join(fragments, "10-log.yaml"):   "\nlog:\n  level: warn\nenvironment: [B, C]\n",
		filepath.Join(fragments, "20-more.yaml"):  "handlers:\n- name: b\n  idempotent: true\n- name: c\n",
		filepath.Join(fragments, "ignored.yml"):   "nonsense",
		filepath.Join(fragments, ".hidden.yaml"):  "nonsense",
		filepath.Join(fragments, "old.yaml.save"): "nonsense",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Read(Sources{
		File: main, Fragments: fragments, Flags: map[string]any{"plugins.dirs": []string{"/p"}},
		Environ: []string{"BLOCKSD_LIMITS__TASKS=7", "LOG_LEVEL=debug", "BLOCKS_CDM_URL=https://me:secret@host/cdm?key=secret"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"file " + filepath.Join(fragments, "ignored.yml") + " is ignored: name it *.yaml"}, l.Warnings); d != "" {
		t.Error(d)
	}
	var got []string
	for _, v := range l.Values() {
		if v.Origin.Source != SourceDefault {
			got = append(got, strings.ReplaceAll(fmt.Sprintf("%s = %s: %s %s", v.Key, v.Text, v.Origin.Source, v.Origin.Where), dir, ""))
		}
	}
	want := []string{
		"drain = 1m0s: file /blocksd.yaml:1",
		"environment = [B, C]: file /conf.d/10-log.yaml:4",
		"log.level = debug: variable LOG_LEVEL",
		`network.cdm_url = "https://hidden@host/cdm?hidden": variable BLOCKS_CDM_URL`,
		"plugins.dirs = [/p]: flag --plugins",
		"handlers[0].name = a: file /blocksd.yaml:4",
		"handlers[0].instances = 2: file /blocksd.yaml:5",
		"handlers[1].name = b: file /conf.d/20-more.yaml:2",
		"handlers[1].idempotent = true: file /conf.d/20-more.yaml:3",
		"handlers[2].name = c: file /conf.d/20-more.yaml:4",
		"limits.tasks = 7: variable BLOCKSD_LIMITS__TASKS",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if all := len(l.Values()); all != len(paths())-2+5 { // two of the keys are lists; their entries have five
		t.Errorf("%d values of %d keys", all, len(paths()))
	}
	// A problem of a value is where the value is.
	if err := os.WriteFile(filepath.Join(fragments, "30-bad.yaml"), []byte("\n\nhandlers: [{name: x/y}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Read(Sources{File: main, Fragments: fragments})
	if want := "configuration file " + filepath.Join(fragments, "30-bad.yaml") + `, line 3: handlers[3] has the name "x/y", which must not contain a slash`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// What is shown can be written into a file again, unless it is a secret.
func TestValueTexts(t *testing.T) {
	for _, s := range []string{"", "a", "a b", "true", "12", "-", "a:", "a: b", "#x", "[", "é", "a,b", "'", `"`, "1e3", "null", "*a", "&a", "x=y"} {
		ps := Problems(nil)
		m, ps := parseFile([]byte("environment: "+valueText(reflect.ValueOf([]string{s}))), "/")
		if got, _ := m["environment"].([]string); len(ps) > 0 || len(got) != 1 || got[0] != s {
			t.Errorf("%q is read back as %q: %v", s, got, ps)
		}
	}
}

func TestSecretsAreHidden(t *testing.T) {
	got := withoutSecrets([]string{"-v", "--password", "p", "--token=t", "API_KEY=k", "--secret", "--next", "plain", "http://u:p@h/"})
	want := []string{"-v", "--password", hidden, "--token=" + hidden, "API_KEY=" + hidden, "--secret", "--next", "plain", "http://hidden@h/"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
