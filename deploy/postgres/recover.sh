#!/bin/bash
# Lays a base backup, /wal/$BASE, into an empty volume: PostgreSQL then reads its log up to $MOMENT, as `2026-11-30 12:00:00+00`,
# or to its end where that is empty, and goes on from there.
set -euo pipefail
: "${BASE:?the name of a base backup in the volume wal}" "${MOMENT?when, such as 2026-11-30 12:00:00+00, or empty for the end of the log}"
base=/wal/${BASE##*/}
if [ -e "$PGDATA" ]; then
    echo "There is a database in this volume already: set POSTGRES_VOLUME to a new name" >&2
    exit 1
fi
# Before anything is made: is it a moment at all, and is the base backup whole?
[ -z "$MOMENT" ] || [ -n "$(date --date="$MOMENT")" ]
pg_verifybackup --no-parse-wal "$base"
mkdir -p "${PGDATA%/*}"
cp --archive "$base" "$PGDATA.part"
cat >>"$PGDATA.part/postgresql.auto.conf" <<CONF
restore_command = 'cp /wal/%f %p'
CONF
[ -z "$MOMENT" ] || cat >>"$PGDATA.part/postgresql.auto.conf" <<CONF
recovery_target_time = '$MOMENT'
recovery_target_action = 'promote'
CONF
touch "$PGDATA.part/recovery.signal"
sync "$PGDATA.part"
mv "$PGDATA.part" "$PGDATA"
echo "$BASE is there, and is brought to ${MOMENT:-the end of the log} when PostgreSQL starts on it"
