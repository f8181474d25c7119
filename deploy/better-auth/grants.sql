-- Lets the role of BETTER_AUTH_DATABASE_URL look one session of Better Auth up, by its token, and nothing else. Run it as the
-- owner of the table, once Better Auth has made it, and again whenever you like: it ends with the same.
--
-- Settings of the session are the parameters, where these names do not suit: parley.reader (parley_sessions), and
-- parley.session_table (auth.session; what Parley has as BETTER_AUTH_SESSION_TABLE). Better Auth must go on connecting as
-- the table's owner: the policy is for the reader alone, and others than the owner then see no session at all.
--
--   psql -v ON_ERROR_STOP=1 -f grants.sql "$OWNERS_URL"
DO $grants$
DECLARE
    reader text := coalesce(nullif(current_setting('parley.reader', true), ''), 'parley_sessions');
    named text := coalesce(nullif(current_setting('parley.session_table', true), ''), 'auth.session');
    -- As Parley takes it: to the letter, capitals too.
    quoted text := (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(named, '.')) AS part);
    sessions regclass := to_regclass(quoted);
    home regnamespace := (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(quoted));
    former oid;
BEGIN
    IF sessions IS NULL THEN
        RAISE EXCEPTION 'there is no table %', named USING
            ERRCODE = 'undefined_table',
            HINT = 'Run Better Auth''s migration first, or name its table of sessions as parley.session_table.';
    END IF;
    -- Whom it was run for before: another reader or, by an earlier version, the API itself.
    FOR former IN
        SELECT unnest(polroles) FROM pg_policy WHERE polrelid = sessions AND polname = 'parley_lookup' AND polroles <> '{0}'
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', sessions, former::regrole);
        IF home <> 'public'::regnamespace THEN
            EXECUTE format('REVOKE ALL ON SCHEMA %s FROM %s', home, former::regrole);
        END IF;
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', home, reader);
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %I', sessions, reader);
    EXECUTE format('GRANT SELECT (token, "expiresAt", "userId") ON %s TO %I', sessions, reader);
    -- Not FORCED: the owner is Better Auth, which reads and writes all of them.
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', sessions);
    EXECUTE format('DROP POLICY IF EXISTS parley_lookup ON %s', sessions);
    -- Empty, and so nobody's, where a transaction has set nothing.
    EXECUTE format(
        'CREATE POLICY parley_lookup ON %s FOR SELECT TO %I USING (token = current_setting(''app.lookup'', true))',
        sessions, reader);
END
$grants$;
