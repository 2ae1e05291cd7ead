package localpg

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNoBinaries says that no PostgreSQL server is installed where one is looked for.
var ErrNoBinaries = errors.New("no PostgreSQL server programs (initdb and postgres) found: install them " +
	"(Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql@17), or name their directory in PGBIN")

// places are where packages put a server's programs without putting them on PATH.
func places() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu, Gentoo
		"/usr/pgsql-*/bin",                                   // RHEL, Fedora, from the PostgreSQL project
		"/usr/libexec/postgresql*",                           // Alpine
		"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew on Apple silicon
		"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew on Linux
		"/opt/local/lib/postgresql*/bin",                     // MacPorts
		"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
		"/usr/local/pgsql/bin",                               // built from source
	}
}

// FindBinaries returns the directory of the initdb and postgres to use, the first that [AllBinaries] finds. The error
// is [ErrNoBinaries] when there is none.
func FindBinaries() (string, error) {
	all, err := AllBinaries()
	if err != nil {
		return "", err
	}

	return all[0], nil
}

// AllBinaries returns the directories that hold both initdb and postgres: those on PATH first, then those of
// installed packages, newest version first. The environment variable PGBIN, if set, is the only place looked at.
// The list is never empty: the error is [ErrNoBinaries] when there is none.
func AllBinaries() ([]string, error) {
	pgbin, path := os.Getenv("PGBIN"), os.Getenv("PATH") //nolint:forbidigo // PostgreSQL's, not this program's settings

	return allBinaries(pgbin, filepath.SplitList(path), places())
}

func allBinaries(pgbin string, path, places []string) ([]string, error) {
	if pgbin != "" {
		if !complete(pgbin) {
			return nil, fmt.Errorf("PGBIN=%s: %w", pgbin, ErrNoBinaries)
		}

		return []string{pgbin}, nil
	}

	var found []string
	for _, place := range places {
		dirs, err := filepath.Glob(place)
		if err != nil {
			return nil, fmt.Errorf("look for PostgreSQL in %s: %w", place, err)
		}
		found = append(found, dirs...)
	}
	slices.SortStableFunc(found, func(a, b string) int { return cmp.Compare(versionIn(b), versionIn(a)) })

	var all []string
	for _, dir := range slices.Concat(path, found) {
		// What is on PATH may be a link: the directory it leads to is the one that holds everything.
		program, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
		if err != nil {
			continue
		}
		if home := filepath.Dir(program); complete(home) && !slices.Contains(all, home) {
			all = append(all, home)
		}
	}
	if len(all) == 0 {
		return nil, ErrNoBinaries
	}

	return all, nil
}

// complete tells whether dir holds both programs.
func complete(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return false
		}
	}

	return true
}

// versionIn is the PostgreSQL version that a package put into the name of a directory, 0 when there is none.
func versionIn(dir string) float64 {
	numbers := regexp.MustCompile(`\d+(\.\d+)?`).FindAllString(dir, -1)
	if len(numbers) == 0 {
		return 0
	}
	version, err := strconv.ParseFloat(numbers[len(numbers)-1], 64)
	if err != nil {
		return 0
	}

	return version
}
