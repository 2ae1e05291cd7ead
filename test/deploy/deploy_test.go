// Package deploy tests what deploy/ holds: the image, the chart, and what is there for
// Prometheus and Grafana. It is a module of its own, so that Helm, Kubernetes' types and
// Prometheus' parser never enter the product's go.mod.
package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/arbitrageai/bidder/pkg/metrics"
)

const root = "../.."

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// exported are the labels of each metric, by its name.
func exported() map[string][]string {
	found := map[string][]string{}
	for _, d := range metrics.Descriptions() {
		found[d.Name] = d.Labels
	}
	return found
}

// problems are what is wrong with an expression: it cannot be parsed, or looks at a metric or
// a label that is not exported. used collects the metrics.
func problems(expr string, used map[string]bool) []string {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", expr, err)}
	}
	known := exported()
	var found []string
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			of, is := known[n.Name]
			if !is {
				found = append(found, fmt.Sprintf("%s: no metric %q is exported", expr, n.Name))
			}
			used[n.Name] = true
			for _, m := range n.LabelMatchers {
				if m.Name != model.MetricNameLabel && !slices.Contains(of, m.Name) {
					found = append(found, fmt.Sprintf("%s: %s has no label %q", expr, n.Name, m.Name))
				}
			}
		case *parser.AggregateExpr:
			if n.Without {
				return nil
			}
			of := map[string]bool{}
			parser.Inspect(n.Expr, func(inner parser.Node, _ []parser.Node) error {
				if selector, is := inner.(*parser.VectorSelector); is {
					for _, label := range known[selector.Name] {
						of[label] = true
					}
				}
				return nil
			})
			for _, label := range n.Grouping {
				if !of[label] {
					found = append(found, fmt.Sprintf("%s: nothing there has the label %q", expr, label))
				}
			}
		}
		return nil
	})
	return found
}

// TestProblems: the check itself finds what is wrong.
func TestProblems(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]int{
		`max(bidder_review_waiting) > 0`:                                       0,
		`max by (outcome) (rate(bidder_attempts_total{outcome="failed"}[5m]))`: 0,
		`max(bidder_review_waitin) > 0`:                                        1,
		`bidder_attempts_total{outcom="failed"}`:                               1,
		`sum by (kind) (rate(bidder_attempts_total[5m]))`:                      1,
		`max(bidder_review_waiting`:                                            1,
		`time() - max(nothing) > max(bidder_cap_used{currenc=""})`:             2,
	} {
		if got := problems(expr, map[string]bool{}); len(got) != want {
			t.Errorf("%s: %d problems, want %d: %v", expr, len(got), want, got)
		}
	}
}

// anchors are the headings of a page, as GitHub links to them.
func anchors(page []byte) []string {
	var found []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ +(.+)$`).FindAllSubmatch(page, -1) {
		slug := strings.ToLower(string(heading[1]))
		slug = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(slug, "")
		found = append(found, strings.ReplaceAll(slug, " ", "-"))
	}
	return found
}

const runbook = "https://github.com/arbitrageai/bidder/blob/main/docs/operations.md#"

type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

// TestAlerts: the rules parse, look at what is exported, and each says what to do, under a
// heading of its own.
func TestAlerts(t *testing.T) {
	t.Parallel()
	var file rules
	if err := yaml.NewDecoder(bytes.NewReader(read(t, "deploy/prometheus/alerts.yaml")), yaml.Strict()).Decode(&file); err != nil {
		t.Fatal(err)
	}
	page := read(t, "docs/operations.md")
	known := anchors(page)
	names, linked := map[string]bool{}, map[string]bool{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if names[rule.Alert] || !strings.HasPrefix(rule.Alert, "Bidder") {
				t.Errorf("alert %q has no name of its own", rule.Alert)
			}
			names[rule.Alert] = true
			for _, problem := range problems(rule.Expr, map[string]bool{}) {
				t.Errorf("%s: %s", rule.Alert, problem)
			}
			if _, err := model.ParseDuration(rule.For); err != nil {
				t.Errorf("%s: for: %v", rule.Alert, err)
			}
			if !slices.Contains([]string{"info", "warning", "critical"}, rule.Labels["severity"]) || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s: labels %v, annotations %v", rule.Alert, rule.Labels, rule.Annotations)
			}
			anchor, is := strings.CutPrefix(rule.Annotations["runbook_url"], runbook)
			if !is || !slices.Contains(known, anchor) || linked[anchor] {
				t.Errorf("%s: docs/operations.md has no heading for %q alone", rule.Alert, rule.Annotations["runbook_url"])
			}
			linked[anchor] = true
			if !bytes.Contains(page, []byte("`"+rule.Alert+"`")) {
				t.Errorf("docs/operations.md does not name %s", rule.Alert)
			}
		}
	}
	for _, mentioned := range regexp.MustCompile("`(Bidder[A-Za-z]+)`").FindAllSubmatch(page, -1) {
		if name := string(mentioned[1]); !names[name] {
			t.Errorf("docs/operations.md names %s, which is no alert", name)
		}
	}
	if len(names) < 10 {
		t.Errorf("only %d alerts", len(names))
	}
}

// TestMetricsInDocs: operations.md lists all metrics and no other.
func TestMetricsInDocs(t *testing.T) {
	t.Parallel()
	page := string(read(t, "docs/operations.md"))
	known := exported()
	for name := range known {
		if !strings.Contains(page, "`"+name) {
			t.Errorf("docs/operations.md does not tell of %s", name)
		}
	}
	for _, name := range regexp.MustCompile(`\bbidder_[a-z_]+\b`).FindAllString(page, -1) {
		if _, is := known[name]; !is && !strings.HasPrefix(name, "bidder_owner") && !strings.HasPrefix(name, "bidder_worker") && !strings.HasPrefix(name, "bidder_pruner") && !strings.HasPrefix(name, "bidder_reader") {
			t.Errorf("docs/operations.md tells of %s, which is not exported", name)
		}
	}
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct {
		X int `json:"x"`
		Y int `json:"y"`
		W int `json:"w"`
		H int `json:"h"`
	} `json:"gridPos"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
}

type dashboard struct {
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name  string          `json:"name"`
			Query json.RawMessage `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Links []struct {
		URL string `json:"url"`
	} `json:"links"`
}

// TestDashboard: it parses, its panels look at what is exported and lie beside each other, and
// every metric is shown.
func TestDashboard(t *testing.T) {
	t.Parallel()
	var d dashboard
	if err := json.Unmarshal(read(t, "deploy/grafana/bidder.json"), &d); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$marketplace", ".*")
	used, ids := map[string]bool{}, map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %d %q: its id is taken, or it has no title, description or expression", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, is := taken[at]; is || at[0] >= 24 {
					t.Fatalf("panel %q lies on %q, or beside the page", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		for _, target := range p.Targets {
			expr := variables.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: %s has a variable that does not exist", p.Title, target.Expr)
			}
			for _, problem := range problems(expr, used) {
				t.Errorf("%s: %s", p.Title, problem)
			}
		}
	}
	for name := range exported() {
		if !used[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
	for _, v := range d.Templating.List {
		var query struct {
			Query string `json:"query"`
		}
		if json.Unmarshal(v.Query, &query) != nil {
			continue // the data source, which is a plain text
		}
		m := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(query.Query)
		if m == nil || !slices.Contains(exported()[m[1]], m[2]) {
			t.Errorf("variable %s: %s", v.Name, query.Query)
		}
	}
	known := anchors(read(t, "docs/operations.md"))
	for _, link := range d.Links {
		if anchor, is := strings.CutPrefix(link.URL, runbook); !is || !slices.Contains(known, anchor) {
			t.Errorf("link to %s", link.URL)
		}
	}
}
