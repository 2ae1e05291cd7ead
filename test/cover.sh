#!/usr/bin/env bash
# cover.sh proves that every statement of the claim and of the posting's normal form runs in
# the tests of its own package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=$(mktemp)
trap 'rm -f "$profile"' EXIT
for package in ./pkg/bidding ./pkg/posting; do
	go test -count=1 -coverprofile "$profile" "$package" >/dev/null
	missed=$(awk 'NR > 1 && $NF == 0 {print $1}' "$profile")
	go tool cover -func "$profile" | tail -n 1 | sed "s#^total:#$package#"
	if [ -n "$missed" ]; then
		printf 'never run:\n%s\n' "$missed" >&2
		exit 1
	fi
done
