package main

// A mistake that is made on purpose, to see that the storm finds it.
type bug struct {
	name    string
	about   string
	patches []patch // of the worker
	schema  string  // what is done to the database
}

const (
	claimSQL    = "db/queries/claim.sql.go"
	deliverySQL = "db/queries/delivery.sql.go"
)

func bugs() []bug {
	return []bug{
		{
			"index", "the unique index is gone, and claims take no lock",
			[]patch{
				{claimSQL, `\nON CONFLICT \(marketplace, job_id\) WHERE status = 'ACTIVE' DO NOTHING`, "", 1},
				{claimSQL, `pg_try_advisory_xact_lock\((t\.lock_key|bid_lock_key\([^)]*\))\)`, "true", 2},
			},
			"DROP INDEX bids_one_active_per_posting",
		},
		{
			"arm", "a POST is sent without being counted before",
			[]patch{
				{
					deliverySQL, `SET place_posts = b\.place_posts \+ 1,\s+first_post_at = [^\n]*\n\s+last_post_at = clock_timestamp\(\)((?s:.*?))RETURNING b\.id, b\.place_posts, b\.first_post_at`,
					"SET place_posts = b.place_posts${1}RETURNING b.id, b.place_posts + 1 AS place_posts, clock_timestamp() AS first_post_at", 1,
				},
				{ // the same where it is armed with its lease
					deliverySQL, `place_posts = b\.place_posts \+ taken\.armed::integer,\s+first_post_at = [^\n]*\n\s+last_post_at = [^\n]*`,
					"place_posts = b.place_posts", 1,
				},
				{
					deliverySQL, `leased\.place_posts, leased\.first_post_at, leased\.last_post_at`,
					`leased.place_posts + leased.armed::integer, CASE WHEN leased.armed THEN leased.leased_at ELSE leased.first_post_at END, leased.last_post_at`, 1,
				},
				{deliverySQL, `place_posts = b\.place_posts - (\$\d+)::integer`, "place_posts = b.place_posts - 0 * ${1}::integer", 2},
			},
			"",
		},
		{
			"token", "results are recorded, and POSTs armed, under anybody's lease",
			[]patch{{deliverySQL, `b\.lease_token = (\$\d+) AND`, "${1}::bigint > 0 AND", 7}},
			"",
		},
	}
}
