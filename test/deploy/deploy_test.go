// Package deploy tests what deploy/ holds: the image, the chart, and what is there for
// Prometheus and Grafana. It is a module of its own, so that Helm, Kubernetes' types and
// Prometheus' parser never enter the product's go.mod.
package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

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

func alerts(t *testing.T) rules {
	t.Helper()
	var file rules
	if err := yaml.NewDecoder(bytes.NewReader(read(t, "deploy/prometheus/alerts.yaml")), yaml.Strict()).Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestAlerts: the rules parse, look at what is exported, and each says what to do, under a
// heading of its own.
func TestAlerts(t *testing.T) {
	t.Parallel()
	file := alerts(t)
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

// found are the series that an expression is evaluated on.
type found struct{ left []promql.Series }

func (f *found) Next() bool                      { f.left = f.left[1:]; return len(f.left) > 0 }
func (f *found) At() storage.Series              { return promql.NewStorageSeries(f.left[0]) }
func (*found) Err() error                        { return nil }
func (*found) Warnings() annotations.Annotations { return nil }

// TestNoMetrics: the alert sees that nobody reads any more, whether what was read last is still
// exported or not, and takes the newest of several readings.
func TestNoMetrics(t *testing.T) {
	t.Parallel()
	var expr string
	for _, group := range alerts(t).Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "BidderNoMetrics" {
				expr = rule.Expr
			}
		}
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1000, Timeout: time.Minute})
	t.Cleanup(func() { _ = engine.Close() })
	const now = 1_800_000_000
	for what, of := range map[string]struct {
		ages  []float64 // of the readings that are exported now, in seconds
		fires bool
	}{
		"nobody has ever read":             {fires: true},
		"a console":                        {ages: []float64{30}},
		"a textfile of this minute":        {ages: []float64{119}},
		"an old textfile":                  {ages: []float64{360}, fires: true},
		"an old textfile beside a console": {ages: []float64{86400, 30}},
		"two old textfiles":                {ages: []float64{86400, 360}, fires: true},
	} {
		querier := &storage.MockQuerier{SelectMockFunction: func(bool, *storage.SelectHints, ...*labels.Matcher) storage.SeriesSet {
			series := []promql.Series{{}} // before the first
			for i, age := range of.ages {
				metric := labels.FromStrings(model.MetricNameLabel, "bidder_read_timestamp_seconds", "instance", strconv.Itoa(i))
				series = append(series, promql.Series{Metric: metric, Floats: []promql.FPoint{{T: (now - 15) * 1000, F: now - age}}})
			}
			return &found{series}
		}}
		query, err := engine.NewInstantQuery(t.Context(), &storage.MockQueryable{MockQuerier: querier}, nil, expr, time.Unix(now, 0))
		if err != nil {
			t.Fatal(err)
		}
		result, err := query.Exec(t.Context()).Vector()
		if err != nil || len(result) > 0 != of.fires {
			t.Errorf("%s: %v, %v", what, result, err)
		}
		query.Close()
	}
}

// TestTextfile: the commands that we give for a textfile leave a whole one in each case, the old
// one when there is no new one, and nothing beside it.
func TestTextfile(t *testing.T) {
	t.Parallel()
	programs := t.TempDir()
	program := "#!/bin/sh\necho \"$READING\"\ncat \"$COLLECTED\" >&2\nexit $CODE\n"
	if err := os.WriteFile(filepath.Join(programs, "bidder"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"docs/operations.md", "cmd/bidder/stats.go"} {
		commands := regexp.MustCompile("(?m)^(?:(?:\\* ){4}\\*)? +(.*bidder stats -o prometheus .*?)[`,]*$").FindAllSubmatch(read(t, page), -1)
		if len(commands) != 1 {
			t.Errorf("%s has %d commands", page, len(commands))
		}
		for _, command := range commands {
			dir := t.TempDir()
			file := filepath.Join(dir, "bidder.prom")
			if err := os.WriteFile(file, []byte("the first\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, reading := range []struct{ text, code, before, after string }{
				{"the second", "0", "the first\n", "the second\n"}, {"half of the third", "4", "the second\n", "the second\n"}, {"the fourth", "0", "the second\n", "the fourth\n"},
			} {
				shell := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.ReplaceAll(string(command[1]), "/var/lib/node_exporter", dir))
				shell.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "READING="+reading.text, "CODE="+reading.code, "COLLECTED="+file)
				meanwhile, _ := shell.CombinedOutput()
				content, err := os.ReadFile(file)
				if err != nil || string(content) != reading.after || string(meanwhile) != reading.before {
					t.Errorf("%s: after %q with exit code %s there is %q, and was %q meanwhile (%v)", page, reading.text, reading.code, content, meanwhile, err)
				}
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
				t.Errorf("%s: it leaves %v (%v)", page, files, err)
			}
		}
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
