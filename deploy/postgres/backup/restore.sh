#!/bin/bash
# Puts the dump of a backup into an empty database, as its owner: all of it, with as many rows as the manifest says, or nothing.
# A database is empty that has no table, or no row of a user's in any. `parley restore files` is run before, and sees that the
# dump is as it was made; `parley migrate` behind it.
#
#   restore.sh FOLDER       one backup
#   restore.sh --look       only whether the database is empty, and nobody uses it
set -euo pipefail
. "$(dirname "$0")/connect.sh"

in_one_transaction() {
    # What ends before COMMIT was not done.
    psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=SHOW_CONTEXT=never --output=/dev/null
}

require_empty() {
    cat <<'SQL'
BEGIN;
SET LOCAL lock_timeout = '10s';
SET LOCAL statement_timeout = 0;
SET LOCAL row_security = off;
SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout';
DO $$
DECLARE
    users text;
    name text;
    has_rows boolean;
    is_last boolean;
BEGIN
    -- Twice: what anybody uses is not to wait for us, and once nobody does, nothing is to come in between.
    FOREACH is_last IN ARRAY ARRAY[false, true] LOOP
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename LOOP
            IF is_last THEN
                EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', name);
            END IF;
            EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', name) INTO has_rows;
            IF has_rows AND name NOT IN ('alembic_version', 'workers') THEN
                RAISE EXCEPTION 'The database is not empty: % has rows', name USING
                    HINT = 'Restore into a new one; nothing of this one was changed.';
            END IF;
        END LOOP;
        SELECT string_agg(DISTINCT usename, ', ') INTO users FROM pg_stat_activity JOIN pg_roles ON rolname = usename
        WHERE datname = current_database() AND usename <> current_user AND NOT rolsuper;
        IF users IS NOT NULL THEN
            RAISE EXCEPTION 'The database is in use by %', users USING
                HINT = 'Stop what is connected: `make down` stops the stack, and loses nothing.';
        END IF;
    END LOOP;
END $$;
SQL
}

make_room() {
    cat <<'SQL'
\set manifest `cat manifest.json`
SELECT set_config('parley.manifest', :'manifest', true);
DO $$
DECLARE
    tables text;
BEGIN
    SELECT string_agg(format('public.%I', tablename), ', ') INTO tables FROM pg_tables WHERE schemaname = 'public';
    IF tables IS NOT NULL THEN
        EXECUTE 'DROP TABLE ' || tables;
    END IF;
END $$;
SQL
}

for_any_server() {
    # At the dump's head, before all data: no server of before 17 knows it, and where there is one it is off already.
    sed '1,/^SELECT pg_catalog.set_config/ { /^SET transaction_timeout = / d }'
}

require_rows() {
    cat <<'SQL'
DO $$
DECLARE
    wanted record;
    found bigint;
BEGIN
    FOR wanted IN
        SELECT key AS name, value::bigint AS rows FROM jsonb_each_text(current_setting('parley.manifest')::jsonb -> 'rows')
    LOOP
        EXECUTE format('SELECT count(*) FROM public.%I', wanted.name) INTO found;
        IF found <> wanted.rows THEN
            RAISE EXCEPTION '% has % rows, and the manifest says %', wanted.name, found, wanted.rows USING
                HINT = 'Nothing was restored: the dump is not the one that the manifest was made for.';
        END IF;
    END LOOP;
END $$;
COMMIT;
SELECT format('ANALYZE public.%I', tablename) FROM pg_tables WHERE schemaname = 'public' \gexec
SQL
}

if [ "${1:?a folder, or --look}" = --look ]; then
    require_empty | in_one_transaction
    exit
fi
cd "$1"
[ -f manifest.json ] || {
    echo "$1 has no manifest.json: it is no backup, or an unfinished one" >&2
    exit 1
}
verbose=()
[ ! -t 2 ] || verbose=(--verbose)
{
    require_empty
    make_room
    # Whoever restores owns it all, and gives the API's role what it gives to it of every table that it makes.
    pg_restore "${verbose[@]}" --file=- --schema=public --no-owner --no-privileges database.dump \
        2> >(grep --invert-match '^pg_restore: creating' >&2) |
        for_any_server && require_rows
} | in_one_transaction
