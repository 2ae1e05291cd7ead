#!/usr/bin/env bash
# fuzz.sh [TIME] fuzzes every target of the project for TIME each (default 1m). Their seeds,
# and what was ever found, run with the other tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z]+' . | sort | while IFS=: read -r file _ func; do
	printf '\n== %s of %s\n' "${func#func }" "$(dirname "$file")"
	# Making what was found smaller may take longer than finding it.
	go test -run '^$' -fuzz "^${func#func }\$" -fuzztime "${1:-1m}" -fuzzminimizetime 1x "$(dirname "$file")" </dev/null
done
