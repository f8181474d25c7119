-- Parley's two roles, in the database that you are connected to. Run it again to change the passwords: nothing else changes.
--
--   parley_owner  owns the database and the schema public, migrates and backs up; BYPASSRLS, but no superuser
--   parley_api    reads and writes the rows of every table that the owner makes later; owns nothing, bypasses nothing
--
-- Nobody else may connect (superusers excepted). Four settings of the session are the parameters: parley.owner_password and
-- parley.api_password, and, where the names above do not suit, parley.owner and parley.api. An administrator that is no superuser
-- may name itself as parley.owner: it stays as it is, and parley.owner_password is not asked for.
--
-- With psql (in PGOPTIONS a backslash goes before each space and backslash of a password):
--   PGOPTIONS="-c parley.owner_password=... -c parley.api_password=..." psql -v ON_ERROR_STOP=1 -f roles.sql "$ADMIN_URL"
-- With any driver, on one connection: SET parley.owner_password = '...'; the same for parley.api_password; then this file.
--
-- The administrator is a superuser or, from PostgreSQL 16 on, a role with CREATEROLE, CREATEDB and BYPASSRLS that owns the
-- database; such a role becomes a member of parley_owner, where it is not the owner itself (and then needs no CREATEDB).
DO $roles$
DECLARE
    owner text := coalesce(nullif(current_setting('parley.owner', true), ''), 'parley_owner');
    api text := coalesce(nullif(current_setting('parley.api', true), ''), 'parley_api');
    is_owner CONSTANT boolean := owner = current_user;
    parameter text;
    wanted record;
    changes text;
    problem text;
    reason text;
BEGIN
    FOREACH parameter IN ARRAY ARRAY['parley.owner_password', 'parley.api_password'] LOOP
        CONTINUE WHEN is_owner AND parameter = 'parley.owner_password';
        IF coalesce(current_setting(parameter, true), '') = '' THEN
            RAISE EXCEPTION '% is not set', parameter USING
                ERRCODE = 'invalid_parameter_value',
                HINT = format(
                    'Run psql with PGOPTIONS="-c %1$s=..." or, in the same session and before this file, SET %1$s = ''...'';',
                    parameter);
        END IF;
    END LOOP;
    -- Without this, the loop below would take an administrator's own powers away, or a superuser would migrate.
    IF owner = api OR api = current_user
        OR is_owner AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'parley.owner (%), parley.api (%) and the administrator (%) must be three roles',
            owner, api, current_user USING
            ERRCODE = 'invalid_parameter_value',
            DETAIL = 'An administrator that is no superuser may be the owner as well.';
    END IF;
    -- Two runs at one moment would change the same catalogue rows, and one would fail.
    PERFORM pg_advisory_xact_lock(hashtext('parley roles'));

    FOR wanted IN
        SELECT * FROM (VALUES
            (owner, current_setting('parley.owner_password', true), true),
            (api, current_setting('parley.api_password'), false)
        ) AS roles (name, password, bypasses)
        -- Who makes roles would lose the power to, and nobody may give BYPASSRLS to itself.
        WHERE name <> current_user
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
            CASE WHEN rolbypassrls AND NOT wanted.bypasses THEN 'NOBYPASSRLS' END,
            CASE WHEN wanted.bypasses AND NOT rolbypassrls THEN 'BYPASSRLS' END)
        INTO changes FROM pg_roles WHERE rolname = wanted.name;
        IF changes <> '' THEN
            EXECUTE format('ALTER ROLE %I %s', wanted.name, changes);
        END IF;
    END LOOP;

    IF is_owner AND NOT (SELECT rolbypassrls FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'the owner must have BYPASSRLS' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Who makes a role is not yet a member of it, and only a member may act for it as the rest does.
    IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', owner);
    END IF;
    IF (SELECT pg_get_userbyid(datdba) <> owner FROM pg_database WHERE datname = current_database()) THEN
        EXECUTE format('ALTER DATABASE %I OWNER TO %I', current_database(), owner);
    END IF;
    IF (SELECT pg_get_userbyid(nspowner) <> owner FROM pg_namespace WHERE nspname = 'public') THEN
        EXECUTE format('ALTER SCHEMA public OWNER TO %I', owner);
    END IF;

    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, %I', current_database(), api);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), api);
    EXECUTE format('REVOKE CREATE ON SCHEMA public FROM PUBLIC, %I', api);
    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', api);
    EXECUTE format(
        'ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I',
        owner, api);
    EXECUTE format(
        'ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO %I', owner, api);
EXCEPTION
    -- PostgreSQL's own report would quote the failed statement, and with it a password, in the server's log.
    WHEN insufficient_privilege THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION '%', problem USING
            ERRCODE = 'insufficient_privilege',
            DETAIL = reason,
            HINT = format(
                'Run this file as a superuser, or as a role that has CREATEROLE, CREATEDB and BYPASSRLS and owns the database; this was %I.',
                current_user);
END
$roles$;
