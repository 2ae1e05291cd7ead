#!/usr/bin/env bash
# images.sh [IMAGE...] makes sure that the Docker engine has a PostgreSQL image for each IMAGE
# (default: postgres:15-alpine postgres:17-alpine) and prints the names to use, one a line.
# An image that is neither present nor to be pulled is replaced by one of the same major
# version, built from Debian packages by postgres-image.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# suite VERSION prints the Debian release that has this PostgreSQL.
suite() {
	case $1 in
	13) echo bullseye ;;
	15) echo bookworm ;;
	17) echo trixie ;;
	*)
		echo "images.sh: no PostgreSQL $1 is installed here and no known Debian release has it" >&2
		return 1
		;;
	esac
}

# ensure IMAGE prints the name of an image that is present.
ensure() {
	local image=$1 version local_image release=
	if docker image inspect "$image" >/dev/null 2>&1; then
		echo "$image"
		return
	fi
	# Long enough for a slow line; without a registry the pull usually fails at once.
	if timeout 300 docker pull --quiet "$image" >&2; then
		echo "$image"
		return
	fi
	version=$(sed -nE 's/^([^:]*\/)?postgres:([0-9]+).*/\2/p' <<<"$image")
	if [ -z "$version" ]; then
		echo "images.sh: cannot pull $image, and only postgres:VERSION can be built instead" >&2
		return 1
	fi
	local_image=bidder-test-postgres:$version
	if ! docker image inspect "$local_image" >/dev/null 2>&1; then
		[ -x "/usr/lib/postgresql/$version/bin/initdb" ] || release=$(suite "$version")
		echo "images.sh: building $local_image to stand in for $image" >&2
		SUITE=$release PGVERSION=$version ./postgres-image.sh "$local_image" >&2
	fi
	echo "$local_image"
}

type -P docker >/dev/null || {
	echo 'images.sh: the docker command is needed to pull or build images' >&2
	exit 1
}
[ $# -gt 0 ] || set -- postgres:15-alpine postgres:17-alpine

# Tests of several packages ask at the same time: one of them builds, the others wait.
exec 9>"${TMPDIR:-/tmp}/bidder-test-images.$UID.lock"
if type -P flock >/dev/null; then flock 9; fi # macOS has none, and its engines reach a registry
for image in "$@"; do ensure "$image"; done
