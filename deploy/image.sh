#!/usr/bin/env bash
# image.sh IMAGE:TAG VERSION builds the image, for the platform of the Docker engine unless
# ARCH says otherwise. The layer depends on the commit and the Go version alone; the image's
# id also on the time of the build, unless the builder obeys SOURCE_DATE_EPOCH (buildx does).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=$1 version=$2

arch=${ARCH:-$(docker version --format '{{.Server.Arch}}')}
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
program=$context/bidder_linux_$arch
go run ./deploy/release -version "$version" -program "$program" "linux/$arch"
chmod 555 "$program"
TZ=UTC touch -t "$(TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M.%S --format=%cd 2>/dev/null || echo 197001010000)" "$program"

docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0 # the builder of the engine itself
docker build --quiet --no-cache --platform "linux/$arch" --build-arg "TARGETARCH=$arch" --build-arg SOURCE_DATE_EPOCH \
	--label "org.opencontainers.image.title=bidder" \
	--label "org.opencontainers.image.version=$version" \
	--label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
	--label "org.opencontainers.image.licenses=Apache-2.0" \
	--tag "$image" --file deploy/Dockerfile "$context"
