package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/sources"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSBOM: every module that the go command finds in a program is there with its version, and so is what the daemon unpacks.
func TestSBOM(t *testing.T) {
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "echo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../handlers/echo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := run([]string{program, "1.2.3"}, "1700000000", out); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("two descriptions of one program differ")
	}
	var b bom
	d := json.NewDecoder(&first)
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		t.Fatal(err)
	}
	if b.Metadata.Timestamp != "2023-11-14T22:13:20Z" || b.Metadata.Component.Version != "1.2.3" ||
		!regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.SerialNumber) {
		t.Errorf("%+v %s", b.Metadata, b.SerialNumber)
	}
	byRef := map[string]component{}
	for _, c := range b.Components {
		if byRef[c.Ref].Ref != "" || c.Version == "" || c.Name == "" {
			t.Errorf("%+v is there twice, or says too little", c)
		}
		byRef[c.Ref] = c
	}
	said, err := exec.CommandContext(t.Context(), "go", "version", "-m", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)\t(\S+)$`).FindAllStringSubmatch(string(said), -1)
	if len(modules) < 5 || len(modules)+3 != len(b.Components) {
		t.Errorf("%d modules, %d components", len(modules), len(b.Components))
	}
	for _, m := range modules {
		if c := byRef[m[1]]; c.Version != m[2] || c.PURL != "pkg:golang/"+m[1]+"@"+m[2] || c.Properties[0].Value != m[3] {
			t.Errorf("%q: %+v", m, c)
		}
	}
	if c := byRef["std"]; !strings.Contains(string(said), ": go"+c.Version+"\n") {
		t.Errorf("%+v", c)
	}
	for ref, need := range map[string]string{"pluginsdk/node": "pkg:npm/sucrase@", "pluginsdk/python": "protobuf>="} {
		c := byRef[ref]
		if len(c.Hashes) != 1 || !slices.ContainsFunc(c.Properties, func(p property) bool { return strings.HasPrefix(p.Value, need) }) {
			t.Errorf("%s: %+v", ref, c)
		}
	}
	for _, dep := range b.Dependencies {
		for _, on := range append(dep.DependsOn, dep.Ref) {
			if byRef[on].Ref == "" && on != b.Metadata.Component.Ref {
				t.Errorf("%s is needed and not there", on)
			}
		}
	}
}

// TestBeside: the packages of which there are files in an image are there, and the program needs them like the rest.
func TestBeside(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run([]string{self, "1", "ca-certificates=20230311+deb12u1"}, "", &out); err != nil {
		t.Fatal(err)
	}
	var b bom
	if err := json.Unmarshal(out.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	const ref, purl = "deb/ca-certificates", "pkg:deb/debian/ca-certificates@20230311%2Bdeb12u1"
	if !slices.ContainsFunc(b.Components, func(c component) bool {
		return c.Ref == ref && c.PURL == purl && c.Version == "20230311+deb12u1"
	}) {
		t.Errorf("%+v", b.Components)
	}
	if all := b.Dependencies[len(b.Dependencies)-1]; !slices.Contains(all.DependsOn, ref) {
		t.Errorf("%+v", all)
	}
}

func TestRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"main.go", "1"}, {"nowhere", "1"}, {os.Args[0], "1", "ca-certificates"}, {os.Args[0], "1", "=1"}} {
		if err := run(args, "", &bytes.Buffer{}); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := run([]string{self, "1"}, "today", &bytes.Buffer{}); err == nil {
		t.Error("a time that is none is taken")
	}
}
