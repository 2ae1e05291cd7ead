package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// costs are what work costs beside time. They are sums, from the start of server and client.
type costs struct {
	server, client time.Duration // of processors, all processes of the server included
	wal            string        // where its log has come to
}

// costs reads them. Nothing else may be under way.
func (d *database) costs(ctx context.Context) (c costs, err error) {
	var dir string
	if err := d.sql.QueryRow(ctx, "SELECT current_setting('data_directory'), pg_current_wal_insert_lsn()").Scan(&dir, &c.wal); err != nil {
		return c, fmt.Errorf("look for the server: %w", err)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return c, err
	}
	if c.server, err = processors(strings.Fields(string(pid))[0]); err != nil {
		return c, err
	}
	var usage syscall.Rusage
	err = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	c.client = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return c, err
}

// processors is what a process and its children have used, those included that are gone.
func processors(pid string) (time.Duration, error) {
	const tick = 10 * time.Millisecond // of Linux, whatever its timer
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	ticks := 0
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(stat), ") ") // the name before may have blanks
		fields := strings.Fields(after)                // from the third on, in the words of proc(5)
		last := 0
		switch {
		case filepath.Base(filepath.Dir(file)) == pid:
			last = 14 // its own, and of children that are gone
		case fields[1] == pid:
			last = 12
		}
		for i := 11; i <= last; i++ {
			n, _ := strconv.Atoi(fields[i])
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// spent adds to s what was used for each operation since before.
func (d *database) spent(ctx context.Context, s *sample, before costs) error {
	after, err := d.costs(ctx)
	if err != nil {
		return err
	}
	var records, images int64
	err = errors.Join(d.exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_walinspect"),
		d.sql.QueryRow(ctx, "SELECT sum(record_size)::bigint, sum(fpi_size)::bigint FROM pg_get_wal_stats($1, pg_current_wal_flush_lsn())",
			before.wal).Scan(&records, &images))
	if s.extra == nil {
		s.extra = map[string]float64{}
	}
	n := float64(s.ops)
	s.extra["server µs"] = float64(after.server-before.server) / 1e3 / n
	s.extra["client µs"] = float64(after.client-before.client) / 1e3 / n
	s.extra["WAL bytes"] = float64(records) / n
	s.extra["WAL bytes of page images"] = float64(images) / n
	return err
}
