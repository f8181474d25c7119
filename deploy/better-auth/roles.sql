-- Better Auth's roles and schema, in the database that you are connected to; beside Parley's, after deploy/postgres/roles.sql.
-- Run it again to change the passwords: nothing else changes.
--
--   parley_auth      owns the schema auth, where all that it makes goes; has no power over Parley's tables, nor any other
--   parley_sessions  is Parley, looking a session up: what grants.sql gives it, and nothing of Parley's own. What the owner of
--                    a table puts into its policies runs as whoever reads it, and so nobody with more to lose reads it
--
-- Settings of the session are the parameters: parley.auth_password, parley.reader_password and, where the names above do not
-- suit, parley.auth, parley.reader and parley.auth_schema; and parley.owner and parley.api, as they were given to the other file.
--
-- With psql (in PGOPTIONS a backslash goes before each space and backslash of a password):
--   PGOPTIONS="-c parley.auth_password=... -c parley.reader_password=..." psql -v ON_ERROR_STOP=1 -f roles.sql "$ADMIN_URL"
-- With any driver, on one connection: SET parley.auth_password = '...'; the same for parley.reader_password; then this file.
--
-- The administrator is who ran the other file; one who is no superuser becomes a member of parley_auth.
DO $roles$
DECLARE
    auth text := coalesce(nullif(current_setting('parley.auth', true), ''), 'parley_auth');
    reader text := coalesce(nullif(current_setting('parley.reader', true), ''), 'parley_sessions');
    home text := coalesce(nullif(current_setting('parley.auth_schema', true), ''), 'auth');
    owner text := coalesce(nullif(current_setting('parley.owner', true), ''), 'parley_owner');
    api text := coalesce(nullif(current_setting('parley.api', true), ''), 'parley_api');
    parameter text;
    wanted record;
    changes text;
    problem text;
    reason text;
BEGIN
    FOREACH parameter IN ARRAY ARRAY['parley.auth_password', 'parley.reader_password'] LOOP
        IF coalesce(current_setting(parameter, true), '') = '' THEN
            RAISE EXCEPTION '% is not set', parameter USING
                ERRCODE = 'invalid_parameter_value',
                HINT = format(
                    'Run psql with PGOPTIONS="-c %1$s=..." or, in the same session and before this file, SET %1$s = ''...'';',
                    parameter);
        END IF;
    END LOOP;
    -- Without this, what follows would take another role's powers away, or give Better Auth what is Parley's.
    IF auth = reader OR ARRAY[auth, reader] && ARRAY[owner, api, current_user::text] THEN
        RAISE EXCEPTION 'parley.auth (%) and parley.reader (%) must be roles of their own', auth, reader
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF home IN ('public', 'information_schema') OR home LIKE 'pg\_%' THEN
        RAISE EXCEPTION 'parley.auth_schema (%) must be a schema of its own', home
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Two runs at one moment would change the same catalogue rows, and one would fail.
    PERFORM pg_advisory_xact_lock(hashtext('parley roles'));

    FOR wanted IN
        SELECT * FROM (VALUES
            (auth, current_setting('parley.auth_password')),
            (reader, current_setting('parley.reader_password'))
        ) AS roles (name, password)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE format('CREATE ROLE %I', wanted.name);
        END IF;
        EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', wanted.name, wanted.password);
        -- Only what differs: who is no superuser may not even repeat an attribute that it lacks itself.
        SELECT concat_ws(' ',
            CASE WHEN rolsuper THEN 'NOSUPERUSER' END,
            CASE WHEN rolcreatedb THEN 'NOCREATEDB' END,
            CASE WHEN rolcreaterole THEN 'NOCREATEROLE' END,
            CASE WHEN rolreplication THEN 'NOREPLICATION' END,
            CASE WHEN rolbypassrls THEN 'NOBYPASSRLS' END)
        INTO changes FROM pg_roles WHERE rolname = wanted.name;
        IF changes <> '' THEN
            EXECUTE format('ALTER ROLE %I %s', wanted.name, changes);
        END IF;
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM %I', current_database(), wanted.name);
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), wanted.name);
        EXECUTE format('REVOKE ALL ON SCHEMA public FROM %I', wanted.name);
    END LOOP;

    -- Who makes a role is not yet a member of it, and only a member may make a schema that it owns.
    IF NOT pg_has_role(current_user, auth, 'USAGE') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', auth);
    END IF;
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', home, auth);
    IF (SELECT pg_get_userbyid(nspowner) <> auth FROM pg_namespace WHERE nspname = home) THEN
        RAISE EXCEPTION 'the schema % is somebody else''s already: name another as parley.auth_schema', home
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The role's, and not the URL's: a pooler lets no session begin with a setting of its own.
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET search_path = %I', auth, current_database(), home);

    -- An earlier version let it in; what it gave it of the sessions, grants.sql takes back.
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', home, api);
EXCEPTION
    -- PostgreSQL's own report would quote the failed statement, and with it a password, in the server's log.
    WHEN insufficient_privilege THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION '%', problem USING
            ERRCODE = 'insufficient_privilege',
            DETAIL = reason,
            HINT = format('Run this file as who ran deploy/postgres/roles.sql; this was %I.', current_user);
END
$roles$;
