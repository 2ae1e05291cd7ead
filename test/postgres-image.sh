#!/usr/bin/env bash
# postgres-image.sh IMAGE:TAG builds a PostgreSQL image from Debian packages and
# imports it into the Docker engine, for machines whose engine reaches no registry.
# The image honours the part of the official image's contract that tests rely on:
# POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS,
# POSTGRES_HOST_AUTH_METHOD, PGDATA, /docker-entrypoint-initdb.d, `-c name=value`
# arguments and port 5432.
#
#   PGVERSION  the major version to pack; default: the newest that is installed
#   SUITE      take the packages from this Debian release through mmdebstrap
#              instead of from this machine, e.g. SUITE=trixie PGVERSION=17
#
# `postgres-image.sh --pack` writes only the root file system, as a tar, to stdout.
set -euo pipefail

fail() {
	echo "postgres-image.sh: $*" >&2
	exit 1
}

newest_version() {
	find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -V | tail -n 1
}

# entrypoint prints the container's entrypoint.
entrypoint() {
	cat <<'ENTRYPOINT'
#!/bin/bash
set -euo pipefail
[ "${1:-postgres}" = "${1#-}" ] || set -- postgres "$@"
[ "${1:-}" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA" /run/postgresql
	chmod 700 "$PGDATA"
	chmod 3777 /run/postgresql
	find "$PGDATA" /run/postgresql \! -user postgres -exec chown postgres:postgres '{}' +
	exec setpriv --reuid=postgres --regid=postgres --init-groups --inh-caps=-all "$0" "$@"
fi

# setting NAME [DEFAULT] exports NAME, from the file that NAME_FILE names if it is set.
setting() {
	local file=$1_FILE
	if [ -n "${!file:-}" ]; then
		export "$1=$(cat "${!file}")"
	else
		export "$1=${!1:-${2:-}}"
	fi
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	setting POSTGRES_PASSWORD
	setting POSTGRES_USER postgres
	setting POSTGRES_DB "$POSTGRES_USER"
	setting POSTGRES_INITDB_ARGS
	method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
	if [ -z "$POSTGRES_PASSWORD" ] && [ "$method" != trust ]; then
		echo 'Error: set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust.' >&2
		exit 1
	fi
	# eval splits POSTGRES_INITDB_ARGS as a shell does, as the official image promises.
	eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") \
		--auth-local=trust --auth-host=scram-sha-256 --no-sync '"$POSTGRES_INITDB_ARGS" >/dev/null
	printf '\nhost all all all %s\nhost replication all all %s\n' "$method" "$method" >>"$PGDATA/pg_hba.conf"

	# The first server listens on its socket only: no client gets in before all is prepared.
	pg_ctl -D "$PGDATA" -o "$(printf '%q ' "${@:2}" -c listen_addresses= -p 5432)" -w start
	run=(psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER")
	if [ "$POSTGRES_DB" != postgres ]; then
		printf 'CREATE DATABASE :"db";' | "${run[@]}" --dbname postgres --set db="$POSTGRES_DB"
	fi
	for file in /docker-entrypoint-initdb.d/*; do
		case $file in
		*.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
		*.sql) "${run[@]}" --dbname "$POSTGRES_DB" -f "$file" ;;
		*.sql.gz) gzip -dc "$file" | "${run[@]}" --dbname "$POSTGRES_DB" ;;
		esac
	done
	pg_ctl -D "$PGDATA" -m fast -w stop
	echo 'PostgreSQL init process complete; ready for start up.'
fi
exec "$@"
ENTRYPOINT
}

# copy FILE puts a file into $root, under its real directory: /bin and /lib are links.
copy() {
	local to
	to=$root$(realpath "$(dirname "$1")")
	mkdir -p "$to"
	cp -L --preserve=mode "$1" "$to/"
}

# pack VERSION writes the root file system with PostgreSQL VERSION of this machine to stdout.
pack() {
	local pg=$1 bin=/usr/lib/postgresql/$1/bin root name file dir
	local -a programs modules=() libraries data
	[ -x "$bin/initdb" ] || fail "no $bin/initdb here: apt-get install postgresql-$pg, or set SUITE"
	root=$scratch/root
	mkdir -p "$root"/{etc,tmp,run/postgresql,var/lib/postgresql/data,docker-entrypoint-initdb.d,usr/{bin,sbin,lib,lib64,local/bin}}
	for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
	ln -s /run "$root/var/run"
	chmod 1777 "$root/tmp" "$root/var/lib/postgresql/data"

	programs=("$bin"/{postgres,initdb,pg_ctl,psql,pg_isready,pg_basebackup,pg_rewind,pg_dump,pg_controldata})
	for name in bash cat chmod chown env find gzip head id locale ls mkdir mv rm sed setpriv sleep tail; do
		programs+=("$(type -P "$name")")
	done
	for file in "/usr/lib/postgresql/$pg/lib"/*.so; do
		case $file in
		*/llvmjit*) ;; # the JIT alone would need 100 MB of LLVM
		*) modules+=("$file") ;;
		esac
	done
	# ldd lists every library with its path; modules that miss an optional one are left as they are.
	mapfile -t libraries < <(ldd "${programs[@]}" "${modules[@]}" 2>/dev/null | grep -oE '/[^ ]+\.so[^ ]*' | grep -v : | sort -u)
	for file in "${programs[@]}" "${modules[@]}" "${libraries[@]}"; do copy "$file"; done
	ln -sf bash "$root/usr/bin/sh"

	data=("usr/share/postgresql/$pg" usr/share/zoneinfo)
	[ ! -d /usr/lib/locale/C.utf8 ] || data+=(usr/lib/locale/C.utf8)
	# zoneinfo/localtime leads to a file that is not here, on which pg_timezone_names fails.
	tar -C / -c --exclude="usr/share/postgresql/$pg/man" --exclude=usr/share/zoneinfo/{right,posix,localtime} "${data[@]}" |
		tar -C "$root" -x
	sed -i "s/^#*listen_addresses *=.*/listen_addresses = '*'/" "$root/usr/share/postgresql/$pg/postgresql.conf.sample"

	printf '%s\n' 'root:x:0:0:root:/root:/bin/bash' 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >"$root/etc/passwd"
	printf '%s\n' 'root:x:0:' 'postgres:x:999:' >"$root/etc/group"
	printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$root/etc/nsswitch.conf"
	entrypoint >"$root/usr/local/bin/docker-entrypoint.sh"
	chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"

	tar -C "$root" --owner=0 --group=0 --numeric-owner -c .
}

[ $# = 1 ] || fail 'usage: [PGVERSION=N] [SUITE=RELEASE] postgres-image.sh IMAGE:TAG'
pg=${PGVERSION:-$(newest_version)}
[ -n "$pg" ] || fail 'no PostgreSQL is installed here: apt-get install postgresql, or set SUITE and PGVERSION'
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ "$1" = --pack ]; then
	pack "$pg"
	exit
fi

image=$1
if [ -n "${SUITE:-}" ]; then
	type -P mmdebstrap >/dev/null || fail 'SUITE needs mmdebstrap: apt-get install mmdebstrap'
	[ -n "${PGVERSION:-}" ] || fail "SUITE needs PGVERSION: which PostgreSQL does $SUITE have?"
	cp "$0" "$scratch/pack.sh"
	# The hook packs inside the chroot, so this also works in a user namespace, without root.
	mmdebstrap --quiet --variant=essential --include="postgresql-$pg" --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --format=null \
		--customize-hook="PGVERSION=$pg chroot \"\$1\" bash -s -- --pack <'$scratch/pack.sh' >'$scratch/image.tar'" \
		"$SUITE" /dev/null >&2
else
	pack "$pg" >"$scratch/image.tar"
fi
docker import \
	--change "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/usr/lib/postgresql/$pg/bin" \
	--change 'ENV LANG=C.UTF-8' --change "ENV PG_MAJOR=$pg" \
	--change 'ENV PGDATA=/var/lib/postgresql/data' --change 'VOLUME /var/lib/postgresql/data' \
	--change 'EXPOSE 5432/tcp' \
	--change 'ENTRYPOINT ["docker-entrypoint.sh"]' --change 'CMD ["postgres"]' \
	"$scratch/image.tar" "$image" >/dev/null
echo "$image: PostgreSQL $pg" >&2
