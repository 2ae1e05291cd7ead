package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// The two marketplaces, each a container of its own. Both take a second live bid on a posting,
// so that whoever makes one is found out.
const (
	keyed     = "keyed"     // answers a repeated idempotency key again
	forgetful = "forgetful" // makes a bid of every POST
)

func marketplaces() []string { return []string{keyed, forgetful} }

// The times of the workers. They are short, so that leases run out under their owners.
const (
	callTimeout = 1500 * time.Millisecond
	settle      = 3 * time.Second
	lease       = 6 * time.Second
	rebidWindow = 5 * time.Second
)

// world is what a storm rages in.
type world struct {
	engine  engine
	links   links
	cluster cluster
	markets map[string]sandbox.Remote
	workers int
	bouncer bool // whether there is a PgBouncer
}

// The ports of the container of the links. Those of a worker are one for each, from these on.
const (
	portPrimary  = 5432 // where PgBouncer finds the primary
	portBouncer  = 6000
	portA, portB = 6100, 6200
	portKeyed    = 6300
	portForget   = 6400
	portTLS      = 6601 // of each marketplace, behind the links
	portFromA    = 6501 // where a standby finds each server
	portFromB    = 6502
	portAdmin    = 7000 // nothing happens to these: a, b and the marketplaces
	marketPort   = 8095
)

func replicationPort(primary string) int {
	if primary == "a" {
		return portFromA
	}
	return portFromB
}

// replication are the links between database and standby.
func replication() []string { return []string{"from-a", "from-b"} }

// toDatabase and toMarket are the links of a worker.
func toDatabase(worker int) []string {
	return []string{fmt.Sprintf("w%d-bouncer", worker), fmt.Sprintf("w%d-a", worker), fmt.Sprintf("w%d-b", worker)}
}

func toMarket(worker int) []string {
	return []string{fmt.Sprintf("w%d-%s", worker, keyed), fmt.Sprintf("w%d-%s", worker, forgetful)}
}

// allLinks describes each link as the container of the links wants it.
func allLinks(workers int) []string {
	list := []string{
		fmt.Sprintf("primary=:%d=a:5432", portPrimary), fmt.Sprintf("from-a=:%d=a:5432", portFromA), fmt.Sprintf("from-b=:%d=b:5432", portFromB),
		fmt.Sprintf("admin-a=:%d=a:5432", portAdmin), fmt.Sprintf("admin-b=:%d=b:5432", portAdmin+1),
		fmt.Sprintf("admin-%s=:%d=%s:%d", keyed, portAdmin+2, keyed, marketPort), fmt.Sprintf("admin-%s=:%d=%s:%d", forgetful, portAdmin+3, forgetful, marketPort),
	}
	for i, name := range marketplaces() {
		list = append(list, fmt.Sprintf("tls=127.0.0.1:%d=%s:%d", portTLS+i, name, marketPort))
	}
	for i := range workers {
		list = append(list,
			fmt.Sprintf("w%d-bouncer=:%d=bouncer:6432", i, portBouncer+i),
			fmt.Sprintf("w%d-a=:%d=a:5432", i, portA+i), fmt.Sprintf("w%d-b=:%d=b:5432", i, portB+i),
			fmt.Sprintf("w%d-%s=:%d=127.0.0.1:%d", i, keyed, portKeyed+i, portTLS),
			fmt.Sprintf("w%d-%s=:%d=127.0.0.1:%d", i, forgetful, portForget+i, portTLS+1))
	}
	return list
}

// breakable are the names of all links to which something may happen.
func breakable(workers int) (list []string) {
	for _, link := range allLinks(workers) {
		if name, _, _ := strings.Cut(link, "="); name != "tls" && !strings.HasPrefix(name, "admin-") {
			list = append(list, name)
		}
	}
	return list
}

// databaseURL is how a worker reaches the primary: every other one through PgBouncer, the rest
// by naming both servers.
func (w *world) databaseURL(worker int) string {
	if w.bouncer && worker%2 == 0 {
		return fmt.Sprintf("postgres://bidder_worker@link:%d/bidding?sslmode=disable&connect_timeout=3&default_query_exec_mode=exec", portBouncer+worker)
	}
	dsn := fmt.Sprintf("postgres://bidder_worker:%s@link:%d,link:%d/bidding?sslmode=disable&connect_timeout=3&target_session_attrs=read-write", password, portA+worker, portB+worker)
	if worker%2 == 0 {
		dsn += "&default_query_exec_mode=exec"
	}
	return dsn
}

// configuration is the file of a worker.
func configuration(worker int, refresh time.Duration) string {
	common := fmt.Sprintf("    allow_private_networks: true\n    timeout: %s\n    settle: %s\n    refresh: %s\n", callTimeout, settle, refresh)
	return "marketplaces:\n  " + keyed + ":\n    handler: sandbox\n" + common +
		fmt.Sprintf("    base_url: https://link:%d\n", portKeyed+worker) +
		"  " + forgetful + ":\n    handler: bridge\n" + common +
		fmt.Sprintf("    base_url: https://link:%d/%s\n", portForget+worker, forgetful) + `    place: {method: POST, path: /bids}
    lookup: {method: GET, path: '/bids/by-key/{idempotency_key}'}
    withdraw: {method: POST, path: '/bids/{external_bid_id}/withdraw'}
    signing_secrets_env: [MARKET_SECRET]
    lookup_is_authoritative: true
    idempotent_place: false
`
}

// environment is that of a worker, as docker run takes it.
func (w *world) environment(worker int) []string {
	var args []string
	for _, variable := range []string{
		"DATABASE_URL=" + w.databaseURL(worker), fmt.Sprintf("BIDDER_CONFIG=/conf/%d.yaml", worker),
		"BIDDER_DELIVERY_LEASE=" + lease.String(), "BIDDER_RETRY_BASE=200ms", "BIDDER_RETRY_CAP=3s", "BIDDER_RETRY_MAX=1000",
		"BIDDER_REBID_WINDOW=" + rebidWindow.String(), "BIDDER_BATCH=32", "BIDDER_MAX_CONNS=5", "BIDDER_LOG_FORMAT=text", "SSL_CERT_FILE=/conf/cert.pem",
		"MARKET_SECRET=whsec_" + base64.StdEncoding.EncodeToString([]byte(sandbox.Secret().Reveal())),
	} {
		args = append(args, "--env", variable)
	}
	return args
}

const pgbouncerINI = `[databases]
bidding = host=link port=%d user=bidder_worker password=%s
[pgbouncer]
listen_addr = *
listen_port = 6432
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 500
default_pool_size = 30
server_login_retry = 1
server_connect_timeout = 5
server_tls_sslmode = disable
`

// raise builds the images and starts everything but the workers.
func (w *world) raise(ctx context.Context, root, dir string, o options) error {
	if err := w.images(ctx, root, dir, o); err != nil {
		return err
	}
	for _, name := range []string{"work", "data", "market"} {
		if err := w.engine.network(ctx, name); err != nil {
			return err
		}
	}
	image, err := postgresImage(ctx, root, os.Stderr)
	if err != nil {
		return err
	}
	if err := w.raiseLinks(ctx); err != nil {
		return err
	}
	admin := make([]string, 4)
	for i := range admin {
		if admin[i], err = w.engine.port(ctx, "link", portAdmin+i); err != nil {
			return err
		}
	}
	w.markets = map[string]sandbox.Remote{}
	for i, name := range marketplaces() {
		if err := w.raiseMarket(ctx, name); err != nil {
			return err
		}
		w.markets[name] = sandbox.Remote{BaseURL: "http://" + admin[2+i], Client: &http.Client{Timeout: time.Minute}}
	}
	pool, err := open(ctx, "postgres", admin[:2]...)
	if err != nil {
		return err
	}
	w.cluster = cluster{engine: w.engine, links: w.links, image: image, pool: pool}
	if err := w.cluster.start(ctx); err != nil {
		return err
	}
	if err := w.schema(ctx); err != nil {
		return err
	}
	pool.Close()
	if w.cluster.pool, err = open(ctx, "bidding", admin[:2]...); err != nil {
		return err
	}
	if w.bouncer {
		return w.engine.run(ctx, "bouncer", "data", "--user", "65534:65534", w.engine.of("pgbouncer"), "/pgbouncer", "/etc/pgbouncer.ini")
	}
	return nil
}

func (w *world) images(ctx context.Context, root, dir string, o options) error {
	for name, patches := range map[string][]patch{"bidder": o.bug.patches, "bidder-stepped": append(o.bug.patches, steppedClock...)} {
		if err := build(ctx, root, dir, name, "./cmd/bidder", patches); err != nil {
			return err
		}
	}
	if err := build(ctx, root, dir, "storm", "./test/storm", nil); err != nil {
		return err
	}
	cert, key, err := certificate()
	if err != nil {
		return err
	}
	files := []content{{"/conf/cert.pem", cert}, {"/conf/key.pem", key}}
	for _, name := range []string{"bidder", "bidder-stepped", "storm"} {
		file, err := program(filepath.Join(dir, name), "/"+name)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	for i := range w.workers {
		files = append(files, content{fmt.Sprintf("/conf/%d.yaml", i), []byte(configuration(i, max(time.Minute, o.duration/2)))})
	}
	if err := w.engine.image(ctx, "bidder", files...); err != nil {
		return err
	}
	err = w.engine.pgbouncer(ctx, fmt.Sprintf(pgbouncerINI, portPrimary, password))
	w.bouncer = err == nil
	if errors.Is(err, errNoPgBouncer) {
		fmt.Fprintf(os.Stderr, "storm: %v: every worker names both servers instead\n", err)
		return nil
	}
	return err
}

func (w *world) raiseLinks(ctx context.Context) error {
	args := []string{"--publish", fmt.Sprintf("127.0.0.1::%d", controlPort)}
	for i := range 4 {
		args = append(args, "--publish", fmt.Sprintf("127.0.0.1::%d", portAdmin+i))
	}
	args = append(args, w.engine.of("bidder"), "/storm", "link")
	if err := w.engine.run(ctx, "link", "work", append(args, allLinks(w.workers)...)...); err != nil {
		return err
	}
	for _, network := range []string{"data", "market"} {
		if _, err := docker(ctx, "network", "connect", "--alias", "link", w.engine.of(network), w.engine.of("link")); err != nil {
			return err
		}
	}
	var err error
	w.links.address, err = w.engine.port(ctx, "link", controlPort)
	return err
}

func (w *world) raiseMarket(ctx context.Context, name string) error {
	if err := w.engine.volume(ctx, name); err != nil {
		return err
	}
	args := []string{
		"--volume", w.engine.of(name) + ":/state", w.engine.of("bidder"), "/bidder", "sandbox",
		"--listen", fmt.Sprintf(":%d", marketPort), "--state", "/state/journal", "--duplicates",
	}
	if name == forgetful {
		args = append(args, "--forgetful")
	}
	return w.engine.run(ctx, name, "market", args...)
}

// schema makes the database and its roles: the workers have no more rights than they need.
func (w *world) schema(ctx context.Context) error {
	for _, sql := range []string{
		"CREATE DATABASE bidding", "CREATE ROLE bidder_worker LOGIN PASSWORD '" + password + "'", "CREATE ROLE bidder_reader",
	} {
		if _, err := w.cluster.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	if _, err := docker(ctx, "run", "--rm", "--label", w.engine.label(), "--network", w.engine.of("data"), "--env",
		"DATABASE_URL=postgres://postgres:"+password+"@a/bidding?sslmode=disable", w.engine.of("bidder"), "/bidder", "migrate", "up"); err != nil {
		return err
	}
	grants, err := docker(ctx, "run", "--rm", "--label", w.engine.label(), w.engine.of("bidder"), "/bidder", "grants")
	if err != nil {
		return err
	}
	pool := w.cluster.pool.Config().ConnConfig.Copy()
	pool.Database = "bidding"
	return execAll(ctx, pool, grants)
}
