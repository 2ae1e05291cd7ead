#!/usr/bin/env bash
# all.sh runs the whole suite in each way that it must pass: on PostgreSQL 17 and 15, with
# pgx's default query mode and without prepared statements, and through PgBouncer in
# transaction mode. It goes on after a failure and ends with the counts.
#
# One package at a time: each uses all processors, and on a slow machine what two of them want at
# once makes pods and tests wait in vain. They are compiled before, many at once. The linters vet them.
#
# The servers run in Docker; where there is no Docker, one from local programs stands in for
# all of them, of the version that is installed. BIDDER_TEST_POSTGRES=docker refuses that.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
failed=0

# leg NAME IMAGE [VARIABLE=VALUE...] -- [FLAG...] PACKAGE...
leg() {
	local name=$1 image=$2 settings=()
	shift 2
	while [ "$1" != -- ]; do
		settings+=("$1")
		shift
	done
	shift
	printf '\n== %s\n' "$name"
	env BIDDER_TEST_IMAGE="$image" "${settings[@]}" \
		go run ./test/testdb/serve -- \
		.tools/gotestsum --format pkgname --jsonfile "$results/$RANDOM$RANDOM.json" -- \
		-p 1 -vet=off -shuffle=on -count=1 -timeout 30m "$@" || failed=1
}

# What talks to a server; the rest need not be repeated, nor need the proof that each
# predicate of the claim is tested, nor the search for data races, which costs most of the time.
database=(./cmd/... ./db/... ./pkg/bidding/... ./pkg/posting/... ./test/e2e/...)

go list -race -export -test -deps ./... >/dev/null || failed=1
leg 'PostgreSQL 17' postgres:17-alpine -- -race ./...
leg 'PostgreSQL 15, without prepared statements' postgres:15-alpine BIDDER_TEST_EXEC_MODE=exec -- -skip '^TestMutants$' "${database[@]}"
leg 'PostgreSQL 15 behind PgBouncer in transaction mode' postgres:15-alpine BIDDER_TEST_EXEC_MODE=exec BIDDER_TEST_PGBOUNCER=1 -- -skip '^TestMutants$' "${database[@]}"

count() { cat "$results"/*.json | grep '"Test":' | grep -c "\"Action\":\"$1\""; }
printf '\n%d passed, %d failed, %d skipped\n' "$(count pass)" "$(count fail)" "$(count skip)"
exit "$failed"
