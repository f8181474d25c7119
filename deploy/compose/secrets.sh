#!/bin/sh
# Makes the stack's secrets, once, in the volume /secrets: a folder for each service, which sees no other's.
# They last as long as the volume does, as the data do: `docker compose down --volumes` ends both.
# With the word `rotate` the API gets a new AUTH_SECRET, and what the old one signed stays good until the next time.
set -eu
umask 022
cd /secrets
mkdir -p api migrate postgres redis pgbouncer auth auth-roles grafana

make() { # FILE: 32 random bytes, in hexadecimal: good in a URL, in SQL and in a shell as they are
    [ -s "$1" ] && return
    od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$1.new"
    mv "$1.new" "$1"
}

make api/auth-secret
# Nobody has signed anything with the first one.
make api/auth-secret-previous
make api/better-auth-secret
make postgres/superuser-password
make postgres/owner-password
make postgres/api-password
make redis/password
make auth-roles/auth-password
make auth-roles/reader-password
make grafana/admin-password

owner=parley_owner:$(cat postgres/owner-password)
api=parley_api:$(cat postgres/api-password)
put() { # FILE TEXT: whole or not at all, as somebody may be reading it
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}

put migrate/database-url "postgresql://$owner@postgres:5432/parley"
# Named for DATABASE_POOLER: straight to the database, or through PgBouncer.
put api/database-url-none "postgresql://$api@postgres:5432/parley"
put api/database-url-transaction "postgresql://$api@pgbouncer:6432/parley"
# Of a role that is there with the profile better-auth; without it, nobody connects.
put api/better-auth-database-url "postgresql://parley_sessions:$(cat auth-roles/reader-password)@postgres:5432/parley"
put api/redis-url "redis://:$(cat redis/password)@redis:6379/0"
put redis/redis.conf "requirepass $(cat redis/password)"
put pgbouncer/userlist.txt "\"parley_api\" \"${api#*:}\""
# Better Auth signs with it, and the API verifies.
put auth/better-auth-secret "$(cat api/better-auth-secret)"
put auth/database-url "postgresql://parley_auth:$(cat auth-roles/auth-password)@postgres:5432/parley"
put auth-roles/superuser-password "$(cat postgres/superuser-password)"

case ${1-} in
rotate)
    # In this order: cut short it has lost nothing, and may be done again.
    make api/auth-secret-next
    put api/auth-secret-previous "$(cat api/auth-secret)"
    mv api/auth-secret-next api/auth-secret
    echo 'AUTH_SECRET is a new one for each API that starts from now on.'
    ;;
'') ;;
*)
    echo "secrets: $1 is none of its words: it knows rotate" >&2
    exit 2
    ;;
esac
