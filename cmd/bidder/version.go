package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// version is set by the linker in releases.
var version = ""

type versionReport struct {
	Version  string  `json:"version"`
	Commit   *string `json:"commit"` // of the sources, unless the build did not see them under version control
	Modified bool    `json:"modified"`
	Go       string  `json:"go"`
	Platform string  `json:"platform"`
	Schema   uint    `json:"schema"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say what this program was built from",
		Long: `Says which release this is, the commit that it was built from ("modified" if the
sources differed), the Go version, and the version of the schema that it needs.
` + "`go version -m bidder`" + ` lists all modules that are in it.`,
		Example: "  bidder version -o json",
		Args:    noArgs,
		RunE: a.action(tableOrJSON, func(*cobra.Command, []string) error {
			report := readVersion()
			if a.output == "json" {
				return printJSON(a.stdout, report)
			}
			commit := "unknown"
			if report.Commit != nil {
				commit = *report.Commit
			}
			if report.Modified {
				commit += " (modified)"
			}
			t := a.screen.Table(terminal.Columns("version", "commit", "go", "platform", "schema")...)
			t.Row(report.Version, terminal.ID(commit), report.Go, report.Platform, report.Schema)
			t.Print()
			return nil
		}),
	}
}

func readVersion() versionReport {
	report := versionReport{Version: programVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Schema: db.LatestVersion()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				report.Commit = &setting.Value
			case "vcs.modified":
				report.Modified = setting.Value == "true"
			}
		}
	}
	return report
}

// programVersion is the version of the release, or what the build knows of the sources.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "devel-" + setting.Value[:min(len(setting.Value), 12)]
		}
	}
	return "devel"
}
