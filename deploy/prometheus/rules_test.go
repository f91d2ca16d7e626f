// Package prometheus checks the alert rules.
package prometheus

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRules: every rule is complete, and names only metrics and labels that the operations page promises.
func TestRules(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	promised := map[string][]string{} // labels by metric
	for _, m := range regexp.MustCompile("`(blocksd_[a-z_]+)(\\{([a-z,]+)\\})?`").FindAllStringSubmatch(string(page), -1) {
		promised[m[1]] = strings.Split(m[3], ",")
	}
	raw, err := os.ReadFile("blocksd.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(raw)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) == 0 {
		t.Fatal("there are no rules")
	}
	suffix := regexp.MustCompile("_(bucket|sum|count)$")
	for _, r := range file.Groups[0].Rules {
		if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("the rule %q lacks something: %+v", r.Alert, r)
		}
		for _, m := range regexp.MustCompile(`(blocksd_[a-z_]+)(\{([a-z]+)!?=)?`).FindAllStringSubmatch(r.Expr, -1) {
			labels, ok := promised[m[1]]
			if !ok {
				labels, ok = promised[suffix.ReplaceAllString(m[1], "")]
			}
			if !ok || m[3] != "" && !strings.Contains(strings.Join(labels, ","), m[3]) {
				t.Errorf("%s asks for %s%s, which is not promised", r.Alert, m[1], m[2])
			}
		}
	}
}
