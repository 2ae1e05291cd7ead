package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/arbitrageai/bidder/db"
)

// peers: what one would use instead. None of them does all that the claim does: River only
// queues, with or without the bids, and the two locks check and insert without any rule but "no live
// bid yet". The fast ones get more postings: a rate is not to be that of the first second.
func peers() row {
	const (
		riverWay = "River InsertMany, unique, 64"
		bidsWay  = "River InsertManyTx, unique, 64, + insert"
		redisWay = "redsync + insert"
		tableWay = "lock table + insert"
	)
	return row{
		name: "peers", work: "one live bid per posting, 32 workers, distinct postings, by other tools",
		bars: []bar{
			{measure: "rate", of: "bidder", to: riverWay, atLeast: 1.3},
			{measure: "rate", of: "bidder", to: bidsWay, atLeast: 1.3},
			{measure: "rate", of: "bidder", to: redisWay, atLeast: 10},
			{measure: "rate", of: "bidder", to: tableWay, atLeast: 15},
		},
		note: func(r result) string {
			note := "\"+ insert\" of River is the same transaction with the rows of the bids, which the other ways have, too. \"lock table\" replays the statements of cirello.io/pglock 1.16 (take, check, insert, release), which is not to be had from the module proxy: a stand-in."
			if len(r.samples[redisWay]) > 0 && r.median(redisWay, "rate") == 0 {
				note += " redis-server is not installed: redsync was not measured."
			}
			return note
		},
		ways: []way{
			{"bidder", func(ctx context.Context, b *bench) (sample, error) {
				return b.onFresh(ctx, claimWorkers, b.sizes.batched, true, func(d *database) (sample, error) {
					return drain(ctx, d.pool, claimWorkers, batchSize)
				})
			}},
			{riverWay, func(ctx context.Context, b *bench) (sample, error) { return b.river(ctx, false) }},
			{bidsWay, func(ctx context.Context, b *bench) (sample, error) { return b.river(ctx, true) }},
			{redisWay, func(ctx context.Context, b *bench) (sample, error) { return b.redsync(ctx) }},
			{tableWay, func(ctx context.Context, b *bench) (sample, error) { return b.lockTable(ctx) }},
		},
	}
}

// job is a unique job of River.
type job struct {
	Marketplace string `json:"marketplace"`
	JobID       string `json:"job_id"`
}

// Kind implements river.JobArgs.
func (job) Kind() string { return "bid" }

// river inserts unique jobs in batches into a database of its own, withBids together with the bids that they are
// for, which it has no table of its own for.
func (b *bench) river(ctx context.Context, withBids bool) (sample, error) {
	d, err := b.database(ctx, claimWorkers)
	if err != nil {
		return sample{}, err
	}
	defer d.drop(ctx)
	return d.river(ctx, claimWorkers, b.sizes.batched, withBids)
}

// river is that on a database that is there.
func (d *database) river(ctx context.Context, workers, n int, withBids bool) (sample, error) {
	driver := riverpgxv5.New(d.pool)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return sample{}, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return sample{}, err
	}
	client, err := river.NewClient(driver, &river.Config{})
	if err != nil {
		return sample{}, err
	}
	if err := d.settle(ctx); err != nil {
		return sample{}, err
	}
	s, err := spread(workers, (n+batchSize-1)/batchSize, func(_, batch int) error {
		var params []river.InsertManyParams
		for i := batch * batchSize; i < min(n, (batch+1)*batchSize); i++ {
			k := key(i)
			params = append(params, river.InsertManyParams{
				Args: job{k.Marketplace, k.JobID}, InsertOpts: &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true}},
			})
		}
		if !withBids {
			_, err := client.InsertMany(ctx, params)
			return err
		}
		return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
			_, err := client.InsertManyTx(ctx, tx, params)
			return errors.Join(err, insertRows(ctx, tx, batch*batchSize, len(params)))
		})
	})
	s.ops = n
	err = errors.Join(err, d.expect(ctx, n, "jobs", "SELECT count(*) FROM river_job"))
	if withBids {
		err = errors.Join(err, d.expect(ctx, n, "live bids", "SELECT count(*) FROM bids WHERE status = 'ACTIVE'"))
	}
	return s, err
}

// redisServer is a Redis of one's own.
type redisServer struct {
	client  *redis.Client
	process *exec.Cmd
	version string
}

// startRedis starts Redis with its defaults, on a socket; nil where it is not installed.
func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: redis-server is not installed: redsync is not measured")
		return nil, nil //nolint:nilnil,nilerr // none is a value
	}
	socket := filepath.Join(dir, "redis.sock")
	r := &redisServer{process: exec.Command(program, "--port", "0", "--unixsocket", socket, "--dir", dir)}
	if err := r.process.Start(); err != nil {
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	r.client = redis.NewClient(&redis.Options{Network: "unix", Addr: socket, PoolSize: claimWorkers})
	for range 200 {
		if err = r.client.Ping(ctx).Err(); err == nil {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("wait for Redis: %w", err)
	}
	output, _ := exec.Command(program, "--version").Output()
	r.version = strings.TrimSpace(string(output))
	return r, nil
}

func (r *redisServer) stop() {
	_ = r.client.Close()
	_ = r.process.Process.Kill()
	_ = r.process.Wait()
}

// isLive is the check that the two locks guard.
const isLive = "SELECT count(*) FROM bids WHERE marketplace = $1 AND job_id = $2 AND status = 'ACTIVE'"

func (b *bench) redsync(ctx context.Context) (sample, error) {
	if b.redis == nil {
		return sample{elapsed: time.Second}, nil
	}
	if err := b.redis.client.FlushAll(ctx).Err(); err != nil {
		return sample{}, err
	}
	locks := redsync.New(goredis.NewPool(b.redis.client))
	return b.onFresh(ctx, claimWorkers, b.sizes.peers, false, func(d *database) (sample, error) {
		return spread(claimWorkers, b.sizes.peers, func(_, i int) error {
			k := key(i)
			mutex := locks.NewMutex(k.LockKey(), redsync.WithExpiry(time.Minute))
			if err := mutex.LockContext(ctx); err != nil {
				return err
			}
			var live int
			err := d.pool.QueryRow(ctx, isLive, k.Marketplace, k.JobID).Scan(&live)
			if err == nil && live == 0 {
				err = insertRow(ctx, d.pool, i)
			}
			_, unlockErr := mutex.UnlockContext(ctx)
			return errors.Join(err, unlockErr)
		})
	})
}

func (b *bench) lockTable(ctx context.Context) (sample, error) {
	return b.onFresh(ctx, claimWorkers, b.sizes.peers, false, func(d *database) (sample, error) {
		err := errors.Join(
			d.exec(ctx, "CREATE SEQUENCE locks_rvn"),
			d.exec(ctx, "CREATE TABLE locks (name text PRIMARY KEY, record_version_number bigint, data bytea, owner text)"))
		if err != nil {
			return sample{}, err
		}
		serializable := func(fn func(tx pgx.Tx) error) error { // which pglock tries again when the server asks for it
			for {
				err := pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, fn)
				if db.Code(err) != db.CodeSerialization {
					return err
				}
			}
		}
		return spread(claimWorkers, b.sizes.peers, func(_, i int) error {
			k := key(i)
			var version int64
			err := serializable(func(tx pgx.Tx) error {
				if err := tx.QueryRow(ctx, "SELECT nextval('locks_rvn')").Scan(&version); err != nil {
					return err
				}
				return tx.QueryRow(ctx, `INSERT INTO locks (name, record_version_number, data, owner) VALUES ($1, $2, '', $3)
					ON CONFLICT (name) DO UPDATE SET
						record_version_number = CASE WHEN coalesce(locks.record_version_number = $4, true) THEN $2 ELSE locks.record_version_number END
					RETURNING record_version_number`, k.LockKey(), version, "worker", 0).Scan(&version)
			})
			if err != nil {
				return err
			}
			var live int
			err = d.pool.QueryRow(ctx, isLive, k.Marketplace, k.JobID).Scan(&live)
			if err == nil && live == 0 {
				err = insertRow(ctx, d.pool, i)
			}
			return errors.Join(err, serializable(func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "UPDATE locks SET record_version_number = NULL WHERE name = $1 AND record_version_number = $2", k.LockKey(), version)
				return err
			}))
		})
	})
}
