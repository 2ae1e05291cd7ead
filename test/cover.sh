#!/usr/bin/env bash
# cover.sh proves that every statement of the claim and of the posting's normal form runs in
# the tests of its own package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=$(mktemp)
log=$(mktemp)
trap 'rm -f "$profile" "$log"' EXIT
for package in ./pkg/bidding ./pkg/posting; do
	# Mutants of the SQL cover nothing more of the Go.
	go test -count=1 -skip '^TestMutants$' -coverprofile "$profile" "$package" >"$log" || {
		cat "$log"
		exit 1
	}
	missed=$(awk 'NR > 1 && $NF == 0 {print $1}' "$profile")
	go tool cover -func "$profile" | tail -n 1 | sed "s#^total:#$package#"
	if [ -n "$missed" ]; then
		printf 'never run:\n%s\n' "$missed" >&2
		exit 1
	fi
done
