// Command sbom prints what a program of this project is made of, as a CycloneDX document: sbom PROGRAM VERSION [PACKAGE=VERSION…].
// The packages are those of Debian of which there are files beside the program, as in the image. The same program gives the
// same bytes; the time in it is SOURCE_DATE_EPOCH, and is left out without it.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/pluginsdk/node"
	"github.com/blocksd/blocksd/pluginsdk/python"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"), os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %s\n", err)
		os.Exit(1)
	}
}

func run(args []string, epoch string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New("give it the file of a program and its version")
	}
	beside, err := debianPackages(args[2:])
	if err != nil {
		return err
	}
	b, err := describe(args[0], args[1], beside)
	if err != nil {
		return err
	}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH must be a number of seconds: %w", err)
		}
		b.Metadata.Timestamp = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(b)
}

// The parts of CycloneDX 1.6 that are used.
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp,omitempty"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []license  `json:"licenses,omitempty"`
		PURL       string     `json:"purl,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	license struct {
		License struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

func describe(program, version string, beside []component) (bom, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return bom{}, fmt.Errorf("read what %s is made of: %w", program, err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return bom{}, err
	}
	sum := sha256.Sum256(content)
	self := ours(component{
		Type: "application", Ref: "blocksd", Name: "blocksd", Version: version, Hashes: sha(sum),
		PURL: "pkg:golang/" + info.Main.Path + "@v" + version,
	})
	for _, s := range info.Settings {
		if slices.Contains([]string{"GOOS", "GOARCH", "CGO_ENABLED", "-trimpath"}, s.Key) {
			self.Properties = append(self.Properties, property{"go:build:" + s.Key, s.Value})
		}
	}
	components := []component{standardLibrary(info.GoVersion)}
	for _, m := range info.Deps {
		components = append(components, moduleOf(m))
	}
	for _, read := range []func() (component, error){nodeSDK, pythonSDK} {
		c, err := read()
		if err != nil {
			return bom{}, err
		}
		components = append(components, c)
	}
	components = append(components, beside...)
	slices.SortFunc(components, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	all := dependency{Ref: self.Ref}
	dependencies := []dependency{}
	for _, c := range components {
		all.DependsOn = append(all.DependsOn, c.Ref)
		dependencies = append(dependencies, dependency{Ref: c.Ref})
	}
	return bom{
		Format: "CycloneDX", SpecVersion: "1.6", SerialNumber: serial(sum), Version: 1,
		Metadata: metadata{Component: self}, Components: components, Dependencies: append(dependencies, all),
	}, nil
}

func sha(sum [sha256.Size]byte) []hash { return []hash{{"SHA-256", hex.EncodeToString(sum[:])}} }

// ours gives a component the license of this project.
func ours(c component) component {
	var l license
	l.License.ID = "Apache-2.0"
	c.Licenses = []license{l}
	return c
}

// serial makes a UUID of version 8 of the program's checksum: the same program has the same one.
func serial(sum [sha256.Size]byte) string {
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func debianPackages(args []string) (cs []component, err error) {
	for _, arg := range args {
		name, version, ok := strings.Cut(arg, "=")
		if !ok || name == "" || version == "" {
			return nil, fmt.Errorf("%q is not PACKAGE=VERSION", arg)
		}
		cs = append(cs, component{
			Type: "library", Ref: "deb/" + name, Name: name, Version: version, PURL: "pkg:deb/debian/" + name + "@" + strings.ReplaceAll(url.PathEscape(version), "+", "%2B"),
		})
	}
	return cs, nil
}

func standardLibrary(goVersion string) component {
	version := strings.TrimPrefix(goVersion, "go")
	return component{Type: "library", Ref: "std", Name: "std", Version: version, PURL: "pkg:golang/std@" + version}
}

func moduleOf(m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	c := component{Type: "library", Ref: m.Path, Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + m.Path + "@" + m.Version}
	if m.Sum != "" { // that of go.sum, which is none of the file's
		c.Properties = []property{{"go:sum", m.Sum}}
	}
	return c
}

// nodeSDK and pythonSDK are what the program unpacks for handlers in these languages. What they need in turn is not in the
// program.
func nodeSDK() (component, error) {
	raw, err := fs.ReadFile(node.Files, "package.json")
	if err != nil {
		return component{}, err
	}
	var p struct {
		Name, Version string
		Dependencies  map[string]string
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return component{}, fmt.Errorf("read the package.json of pluginsdk/node: %w", err)
	}
	c, err := embedded("pluginsdk/node", p.Name, p.Version, node.Files)
	for _, name := range slices.Sorted(maps.Keys(p.Dependencies)) {
		c.Properties = append(c.Properties, property{"blocksd:needs", "pkg:npm/" + strings.Replace(name, "@", "%40", 1) + "@" + p.Dependencies[name]})
	}
	return c, err
}

var (
	pythonVersion = regexp.MustCompile(`(?m)^VERSION\b.*= *"([^"]+)"`)
	pythonNeeds   = regexp.MustCompile(`(?m)^dependencies = \[(.*)\]$`)
)

func pythonSDK() (component, error) {
	source, err := fs.ReadFile(python.Files, "blocksd/_version.py")
	if err != nil {
		return component{}, err
	}
	project, err := fs.ReadFile(python.Files, "pyproject.toml")
	if err != nil {
		return component{}, err
	}
	version, needs := pythonVersion.FindSubmatch(source), pythonNeeds.FindSubmatch(project)
	if version == nil || needs == nil {
		return component{}, errors.New("pluginsdk/python does not say its version or what it needs")
	}
	c, err := embedded("pluginsdk/python", "blocksd", string(version[1]), python.Files)
	for need := range strings.SplitSeq(string(needs[1]), `", "`) {
		c.Properties = append(c.Properties, property{"blocksd:needs", strings.Trim(need, `"`)})
	}
	return c, err
}

// embedded is a tree of files inside the program. Its checksum is that of the list of their paths and checksums, as
// sha256sum prints it.
func embedded(ref, name, version string, files fs.FS) (component, error) {
	list := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error { // in the order of the names
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		fmt.Fprintf(list, "%x  %s\n", sha256.Sum256(content), path)
		return err
	})
	return ours(component{
		Type: "library", Ref: ref, Name: name, Version: version, Hashes: sha([sha256.Size]byte(list.Sum(nil))),
		Properties: []property{{"blocksd:embedded", "true"}},
	}), err
}
