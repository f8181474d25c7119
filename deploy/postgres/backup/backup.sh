#!/bin/bash
# Begins a backup, as the database's owner: a dump, how many rows each table has and which files there are, all of one moment,
# while others write. `parley backup files` then copies the files, and makes it whole.
#
#   backup.sh [FOLDER]      the folder of backups, /backups if left out
set -euo pipefail
umask 077
. "$(dirname "$0")/connect.sh"

backups=${1:-/backups}
exec 9<"$backups"
flock --nonblock 9 || {
    echo "Another backup is being made in $backups; try again when it has ended" >&2
    exit 1
}
# In place of what somebody has left there who did not finish.
rm -rf "$backups/unfinished"
mkdir "$backups/unfinished"
cd "$backups/unfinished"
# An older schema knows of no files.
touch files.sha256

if [ -t 2 ]; then
    while sleep 2; do
        [ ! -f database.partial ] || echo "$(stat --format=%s database.partial) bytes of the database ..." >&2
    done 9<&- &
    trap 'kill %1' EXIT
fi

# The dump sees what this transaction sees. Where a policy would hide rows from the role, `row_security` makes that an error.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 <<'SQL'
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET lock_timeout = '60s';
SET row_security = off;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \gset
\setenv SNAPSHOT :snapshot

\pset format csv
\pset tuples_only on
\o begun.csv
SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), version_num FROM public.alembic_version;
\o rows.csv
SELECT format('SELECT %L, count(*) FROM public.%I', tablename, tablename) FROM pg_tables
WHERE schemaname = 'public' AND tablename <> 'workers' ORDER BY tablename \gexec
\o
SELECT to_regclass('public.files') IS NOT NULL AS has_files \gset
\if :has_files
    \copy (SELECT sha256 || '  files/' || id FROM public.files ORDER BY id) TO 'files.sha256'
\endif

-- Of the processes that run turns none is the restored database's: what they were running is then nobody's, and ends.
\! pg_dump --snapshot="$SNAPSHOT" --format=custom --schema=public --exclude-table-data=public.workers --lock-wait-timeout=60s --file=database.partial && mv database.partial database.dump
SQL
[ -f database.dump ] || {
    echo 'The database was not dumped' >&2
    exit 1
}
