#!/usr/bin/env bash
# try.sh shows the whole way of 50 postings: claimed in a private Postgres, delivered to a
# marketplace that exists only while this runs. Nothing leaves this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A server of its own each time, apart from the one that `bidder --embedded` keeps.
scratch=$(mktemp -d)
chmod 711 "$scratch" # the server does not run as root
trap 'rm -rf "$scratch"' EXIT
export BIDDER_EMBEDDED=true BIDDER_STATE_DIR=$scratch/state BIDDER_CONFIG=examples/sandbox.yaml BIDDER_LOG_LEVEL=warn

echo '$ bidder sandbox &'
arrivals=$scratch/arrivals
bin/bidder sandbox >"$arrivals" &
sandbox=$!
until [ -s "$arrivals" ] || ! kill -0 $sandbox; do sleep 0.05; done
trap 'kill -KILL $sandbox 2>/dev/null; wait $sandbox 2>/dev/null || true; rm -rf "$scratch"' EXIT

echo '$ bidder run --postings examples/postings.ndjson --cached-at now'
bin/bidder run --postings examples/postings.ndjson --cached-at now

printf '\nWhat the sandbox saw arrive (operation, answer, posting, its own id of the bid):\n'
sed -n 2,6p "$arrivals"
printf '... %d requests in all\n' "$(($(wc -l <"$arrivals") - 1))"

printf '\n$ bidder bids --limit 5\n'
bin/bidder bids --limit 5
