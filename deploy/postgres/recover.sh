#!/bin/bash
# Lays a base backup, /wal/$BASE, into an empty volume: PostgreSQL then reads its log up to $MOMENT, as `2026-11-30 12:00:00+00`,
# or to its end where that is empty, and goes on from there. Of a log with more than one history it is the newest, or $TIMELINE.
set -euo pipefail
: "${BASE:?the name of a base backup in the volume wal}" "${MOMENT?when, such as 2026-11-30 12:00:00+00, or empty for the end of the log}"
base=/wal/${BASE##*/}
if [ -e "$PGDATA" ]; then
    echo "There is a database in this volume already: set POSTGRES_VOLUME to a new name" >&2
    exit 1
fi
[[ ${TIMELINE:=latest} =~ ^(latest|current|[0-9]+)$ ]] || {
    echo "TIMELINE is latest, current (that of the base backup) or a number, not $TIMELINE" >&2
    exit 1
}
# Before anything is made: is it a moment at all, and is the base backup whole? PostgreSQL takes fewer words for one.
[ -z "$MOMENT" ] || MOMENT=$(date --utc --date="$MOMENT" '+%F %T.%6N+00')
pg_verifybackup --no-parse-wal "$base"
mkdir -p "${PGDATA%/*}"
# In place of what was left where this was cut short.
rm -rf "$PGDATA.part"
cp --archive "$base" "$PGDATA.part"
cat >>"$PGDATA.part/postgresql.auto.conf" <<CONF
restore_command = 'cp /wal/%f %p'
recovery_target_timeline = '$TIMELINE'
CONF
[ -z "$MOMENT" ] || cat >>"$PGDATA.part/postgresql.auto.conf" <<CONF
recovery_target_time = '$MOMENT'
recovery_target_action = 'promote'
CONF
touch "$PGDATA.part/recovery.signal"
sync "$PGDATA.part"
mv "$PGDATA.part" "$PGDATA"
echo "$BASE is there, and is brought to ${MOMENT:-the end of the log} when PostgreSQL starts on it"
