package metrics

import (
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"github.com/blocksd/blocksd/event"
)

// scraped are the series of a daemon that has done everything once, as a collection of Prometheus would name them: for each
// name, the values of each label.
func scraped(t *testing.T) map[string]map[string][]string {
	t.Helper()
	w := watch(t)
	defer w.Close()
	w.Committed(time.Millisecond)
	w.Published(time.Millisecond)
	w.Delivered("a", "t", time.Millisecond, time.Millisecond)
	w.emit(
		event.Event{Type: event.TaskAccepted, Agent: "a", TaskID: "t"}, event.Event{Type: event.TaskStarted, Agent: "a", TaskID: "t"},
		event.Event{Type: event.TaskEnded, Agent: "a", TaskID: "t"}, event.Event{Type: event.ProcessExited, Handler: "h", Level: slog.LevelError},
	)
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]map[string][]string{"up": {}}
	for _, f := range families {
		names := []string{f.GetName()}
		if f.GetType() == dto.MetricType_HISTOGRAM {
			names = []string{f.GetName() + "_bucket", f.GetName() + "_sum", f.GetName() + "_count"}
		}
		for _, name := range names {
			labels := map[string][]string{}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
				}
			}
			if strings.HasSuffix(name, "_bucket") {
				labels["le"] = nil
			}
			series[name] = labels
		}
	}
	return series
}

// ofPrometheus are the labels that a scrape adds.
var ofPrometheus = []string{"instance", "job"}

// checkExpression reports what of an expression nothing here could ever answer: it is no expression, or names a metric, a
// label or the value of a label that does not exist.
func checkExpression(report func(format string, args ...any), where, text string, series map[string]map[string][]string) {
	e, err := metricsql.Parse(text)
	if err != nil {
		report("%s: %s: %v", where, text, err)
		return
	}
	known := slices.Clone(ofPrometheus)
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		m, ok := e.(*metricsql.MetricExpr)
		if !ok {
			return
		}
		for _, filters := range m.LabelFilterss {
			if len(filters) == 0 || filters[0].Label != "__name__" {
				report("%s: %s names no metric", where, text)
				continue
			}
			labels, ok := series[filters[0].Value]
			if !ok {
				report("%s: there is no metric %s", where, filters[0].Value)
			}
			for label := range labels {
				known = append(known, label)
			}
			for _, f := range filters[1:] {
				values, ok := labels[f.Label]
				if !ok && !slices.Contains(ofPrometheus, f.Label) {
					report("%s: %s has no label %s", where, filters[0].Value, f.Label)
				}
				if ok && !f.IsRegexp && !slices.Contains(values, f.Value) {
					report("%s: the label %s of %s is never %q", where, f.Label, filters[0].Value, f.Value)
				}
			}
		}
	})
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		var by []string
		switch e := e.(type) {
		case *metricsql.AggrFuncExpr:
			by = e.Modifier.Args
		case *metricsql.BinaryOpExpr:
			by = append(slices.Clone(e.GroupModifier.Args), e.JoinModifier.Args...)
		}
		for _, label := range by {
			if !slices.Contains(known, label) {
				report("%s: nothing in %s has the label %s", where, text, label)
			}
		}
	})
}

// TestExpressions: the alert rules and the dashboard ask for what there is.
func TestExpressions(t *testing.T) {
	series := scraped(t)
	read := func(path string) []byte {
		b, err := os.ReadFile("../../deploy/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(read("prometheus/blocksd.rules.yml"), &rules); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			checkExpression(t.Errorf, "alert "+r.Alert, r.Expr, series)
			checked++
		}
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, RefID string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(read("grafana/blocksd.json"), &board); err != nil {
		t.Fatal(err)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q has the id of another one, no query, or no place", p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := cells[cell]; other != "" {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				cells[cell] = p.Title
			}
		}
		for _, target := range p.Targets {
			checkExpression(t.Errorf, "panel "+p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), series)
			checked++
		}
	}
	for _, v := range board.Templating.List {
		if metric, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			metric, label, _ := strings.Cut(strings.TrimSuffix(metric, ")"), ", ")
			checkExpression(t.Errorf, "variable "+v.Name, "sum by ("+label+") ("+metric+")", series)
			checked++
		}
	}
	if checked < 30 {
		t.Errorf("only %d expressions were found", checked)
	}
}

// TestWrongExpressions: the check finds what is wrong.
func TestWrongExpressions(t *testing.T) {
	series := scraped(t)
	for _, wrong := range []string{
		"blocksd_ready ==", "blocksd_nothing", `blocksd_tasks_total{handler="h"}`, `blocksd_tasks_total{outcome="lost"}`, "sum by (agent) (blocksd_ready)",
		"blocksd_task_duration_seconds", `rate(blocksd_handler_restarts_total{agent="a"}[5m])`, `{agent="a"}`,
	} {
		found := false
		checkExpression(func(string, ...any) { found = true }, "", wrong, series)
		if !found {
			t.Errorf("%s passes", wrong)
		}
	}
}
