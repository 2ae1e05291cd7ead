// Package docs tests that the documents tell of tests that exist.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestNamedTests: each test that a table names is in the package that it is said to be in.
func TestNamedTests(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile("`((?:cmd|db|deploy|pkg|test)(?:/[a-z0-9/]+)?)`|\\b((?:Test|Fuzz)[A-Z]\\w*)")
	for _, name := range []string{"guarantees.md", "threat-model.md"} {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for number, line := range strings.Split(string(page), "\n") {
			if !strings.HasPrefix(line, "|") {
				continue
			}
			var folder string
			for _, m := range word.FindAllStringSubmatch(line, -1) {
				if m[1] != "" {
					folder = m[1]
					continue
				}
				seen++
				if !has(t, folder, m[2]) {
					t.Errorf("%s:%d: there is no %s in %q", name, number+1, m[2], folder)
				}
			}
		}
		if seen < 50 {
			t.Errorf("%s: only %d tests were found", name, seen)
		}
	}
}

// has says whether a test is in a package.
func has(t *testing.T, folder, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+test+"(") {
			return true
		}
	}
	return false
}
