package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// maxReportedRejects bounds the rejects in a report; --rejects writes them all.
const maxReportedRejects = 1000

type ingestReport struct {
	posting.Counts
	Rejects []*posting.Reject `json:"rejects"`
	Notes   map[string]int    `json:"notes"`
}

func (a *app) ingestCommand() *cobra.Command {
	var in input
	cmd := &cobra.Command{
		Use:   "ingest FILE...|-",
		Short: "Put postings in the cache",
		Long: `Reads postings, one JSON object per line (NDJSON), and puts them in the cache.
New postings and newer content become candidates, which the next run decides on.

A bad line is rejected alone, with its number and the reason, and of several files
with its own; all others are kept, and the exit code is 3. Reading the same file again
is harmless.`,
		Example: `  bidder ingest postings.ndjson
  bidder ingest --cached-at now --rejects bad.ndjson monday.ndjson tuesday.ndjson
  my-scanner | bidder ingest -`,
		Args: cobra.MinimumNArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			in.names = args
			return a.ingest(cmd, &in)
		}),
	}
	in.flags(cmd)
	settings(cmd, "statement-timeout")
	return cmd
}

func (a *app) ingest(cmd *cobra.Command, in *input) (err error) {
	s, err := a.connectTo(cmd, in)
	if err != nil {
		return err
	}
	defer s.close()
	defer in.close(&err)
	report, _, readErr := a.read(cmd.Context(), s, in)
	if readErr != nil && exitCode(readErr) != codePerson {
		s.log.Warn("not everything was read; what was read before is kept", "read", report.Read)
		return readErr
	}
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, report), readErr)
	}
	a.printIngest(report.Counts)
	if s.DryRun {
		fmt.Fprintln(a.stdout, "Dry run: nothing was written.")
	}
	return readErr
}

// input are the files that a command reads postings from.
type input struct {
	names    []string
	cachedAt string
	rejects  string

	files      []*os.File
	rejectFile *os.File
}

func (in *input) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&in.cachedAt, "cached-at", "", "cached_at of lines that have none: an RFC 3339 time, or now, which is when the command started")
	cmd.Flags().StringVar(&in.rejects, "rejects", "", "write rejected lines' numbers and reasons to this file, as NDJSON")
}

// connectTo opens the input before the database, and the file for rejects last: a missing file
// or a wrong setting means that nothing was touched.
func (a *app) connectTo(cmd *cobra.Command, in *input) (*session, error) {
	if err := in.open(cmd.Context(), a.stdin); err != nil {
		return nil, err
	}
	s, err := a.open(cmd)
	if err != nil {
		in.close(&err)
		return nil, err
	}
	if err := in.createRejects(a.stdin); err != nil {
		in.close(&err)
		s.close()
		return nil, err
	}
	return s, nil
}

func (in *input) open(ctx context.Context, stdin io.Reader) (err error) {
	defer func() {
		if err != nil {
			in.close(&err)
		}
	}()
	if in.cachedAt != "" && in.cachedAt != "now" {
		if _, err := posting.ParseTime(in.cachedAt); err != nil {
			return usageError{fmt.Errorf("--cached-at: %w", err)}
		}
	}
	for _, name := range in.names {
		if name == "-" {
			if f, ok := stdin.(*os.File); ok && terminal.IsTerminal(f) {
				return usageError{errors.New("standard input is a terminal: pipe postings in, or name a file")}
			}
			in.files = append(in.files, nil)
			continue
		}
		file, err := openUntil(ctx, name)
		if err != nil {
			return err
		}
		in.files = append(in.files, file)
		if info, err := file.Stat(); err == nil && info.IsDir() {
			return usageError{fmt.Errorf("%s is a directory: name its files", name)}
		}
	}
	return nil
}

// openUntil opens a file for reading until the end of ctx: that of a named pipe waits for somebody who
// writes to it. One that is opened too late goes with the process.
func openUntil(ctx context.Context, name string) (*os.File, error) {
	var file *os.File
	opened := make(chan error, 1)
	go func() {
		var err error
		file, err = os.Open(name)
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			return nil, usageError{err}
		}
		return file, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx) //nolint:wrapcheck // the signal
	}
}

// createRejects makes the file for rejects, or empties the last one, but none that is read.
func (in *input) createRejects(stdin io.Reader) (err error) {
	if in.rejects == "" {
		return nil
	}
	if existing, err := os.Stat(in.rejects); err == nil {
		for _, file := range in.files {
			if file == nil {
				file, _ = stdin.(*os.File) // whose Stat fails where it is none
			}
			// Devices such as /dev/null lose nothing.
			if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice == 0 && os.SameFile(info, existing) {
				return usageError{fmt.Errorf("--rejects %s is a file that is read: name another", in.rejects)}
			}
		}
	}
	if in.rejectFile, err = os.Create(in.rejects); err != nil {
		return usageError{err}
	}
	return nil
}

func (in *input) close(err *error) {
	defer func() { in.files, in.rejectFile = nil, nil }() // to be opened again
	for _, file := range in.files {
		if file != nil {
			_ = file.Close() // only read from
		}
	}
	if in.rejectFile != nil {
		*err = errors.Join(*err, in.rejectFile.Close())
	}
}

// read ingests all files, or rehearses that in a dry run; then it also returns what the
// cache would hold newer. Its error is a personError when only lines were rejected.
func (a *app) read(ctx context.Context, s *session, in *input) (ingestReport, map[posting.Key]posting.Posting, error) {
	report := ingestReport{Rejects: []*posting.Reject{}, Notes: map[string]int{}}
	fresh := map[posting.Key]posting.Posting{}
	now, err := s.now(ctx)
	if err != nil {
		return report, nil, err
	}
	options := in.options(now, s.DefaultCurrency)
	for i, name := range in.names {
		reader, size := a.stdin, int64(-1)
		if file := in.files[i]; file != nil {
			reader = file
			if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
				size = info.Size()
			}
		}
		if size < 0 {
			reader = interruptible(ctx, reader)
		}
		bar := a.byteProgress("reading "+filepath.Base(name), size)
		d := posting.NewDecoder(io.TeeReader(reader, bar), options)
		observer := posting.Observer{Rejected: func(r *posting.Reject) error {
			return a.rejected(s, in, name, &report, r)
		}}
		var counts posting.Counts
		if s.DryRun {
			err = db.ReadOnly(ctx, s.pool, func(tx pgx.Tx) error {
				var err error
				counts, err = posting.Rehearse(ctx, tx, d, fresh, s.Reads().Description, observer)
				return err
			})
		} else {
			counts, err = posting.Ingest(ctx, s.pool, s.writeLimits(), d, observer)
		}
		bar.finish()
		report.Counts = report.Add(counts)
		for code, n := range d.Notes() {
			report.Notes[code] += n
		}
		if err != nil {
			return report, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for code, n := range report.Notes {
		s.log.Info("note on the postings", "code", code, "times", n)
	}
	if report.Rejected > 0 {
		return report, fresh, personError{}
	}
	return report, fresh, nil
}

// options are how the lines are read, from the time now on.
func (in *input) options(now time.Time, currency string) posting.Options {
	options := posting.Options{Now: goingOn(now), DefaultCurrency: currency}
	switch in.cachedAt {
	case "":
	case "now":
		options.CachedAt = now
	default:
		options.CachedAt, _ = posting.ParseTime(in.cachedAt) // checked when it was opened
	}
	return options
}

// goingOn is a clock that says now, and goes on from there whatever becomes of this machine's.
func goingOn(now time.Time) func() time.Time {
	began := time.Now()
	return func() time.Time { return now.Add(time.Since(began)) }
}

// interruptible reads r until the end of ctx as well: who writes to a pipe may be silent for
// ever.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	reader, writer := io.Pipe()
	context.AfterFunc(ctx, func() { writer.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.Copy(writer, r)
		writer.CloseWithError(err)
	}()
	return reader
}

// maxLoggedRejects bounds the rejects that are logged one by one.
const maxLoggedRejects = 20

func (a *app) rejected(s *session, in *input, name string, report *ingestReport, r *posting.Reject) error {
	if len(in.names) > 1 {
		r.File = name
	}
	if len(report.Rejects) < maxReportedRejects {
		report.Rejects = append(report.Rejects, r)
	}
	switch n := len(report.Rejects); {
	case n <= maxLoggedRejects:
		s.log.Warn("line rejected", "file", name, "line", r.Line, "code", r.Code, "reason", r.Message)
	case n == maxLoggedRejects+1:
		s.log.Warn("more lines are rejected; --rejects FILE keeps them all", "file", name)
	}
	if in.rejectFile == nil {
		return nil
	}
	if err := json.NewEncoder(in.rejectFile).Encode(r); err != nil {
		return fmt.Errorf("write %s: %w", in.rejects, err)
	}
	return nil
}

func (a *app) printIngest(in posting.Counts) {
	t := a.screen.Table(terminal.Numbers("lines read", "accepted", "updated", "unchanged", "rejected", "blank")...)
	rejected := terminal.Styled{Value: in.Rejected}
	if in.Rejected > 0 {
		rejected.Style = terminal.Warn
	}
	t.Row(in.Read, in.Accepted, in.Updated, in.Unchanged, rejected, in.Blank)
	t.Print()
}
