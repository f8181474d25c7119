"""What a login of the API may do, or lose, that it must not in production."""

from itertools import groupby
from operator import itemgetter

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_ROLES = "deploy/postgres/roles.sql"

# Also what it could become: a member may take a role on, RESET ROLE gives the session's own back,
# and whoever reads or writes the server's files is as good as a superuser.
_POWERS = text(
    """
    WITH me AS (
      SELECT oid, rolsuper FROM pg_roles WHERE rolname IN (session_user, current_user)
    ), mine AS (
      SELECT * FROM pg_roles r WHERE EXISTS (
        SELECT FROM me
        WHERE r.oid = me.oid OR (NOT me.rolsuper AND pg_has_role(me.oid, r.oid, 'MEMBER')))
    )
    SELECT mine.rolname, power
    FROM mine CROSS JOIN LATERAL (VALUES
      (1, mine.rolsuper, 'is a superuser'),
      (2, mine.rolbypassrls, 'has BYPASSRLS'),
      (3, mine.rolcreaterole, 'has CREATEROLE'),
      (4, mine.rolcreatedb, 'has CREATEDB'),
      (5, mine.rolreplication, 'has REPLICATION'),
      (6, mine.rolname IN
        ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'),
        'acts on the server as its system user'),
      (7, EXISTS (SELECT FROM pg_database
        WHERE datname = current_database() AND datdba = mine.oid), 'owns the database'),
      (8, EXISTS (SELECT FROM pg_namespace
        WHERE nspname = ANY (current_schemas(false)) AND nspowner = mine.oid), 'owns the schema'),
      (9, EXISTS (SELECT FROM pg_class
        WHERE relnamespace = ANY (current_schemas(false)::regnamespace[])
          AND relowner = mine.oid), 'owns tables'),
      (10, has_database_privilege(mine.oid, current_database(), 'CREATE'), 'may create schemas'),
      (11, has_database_privilege(mine.oid, current_database(), 'TEMPORARY'),
        'may create temporary tables'),
      (12, EXISTS (SELECT FROM unnest(current_schemas(false)) AS schema
        WHERE has_schema_privilege(mine.oid, schema, 'CREATE')), 'may create tables'),
      (13, :is_migrated AND (
        has_table_privilege(mine.oid, to_regclass('alembic_version'),
          'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        OR has_any_column_privilege(mine.oid, to_regclass('alembic_version'),
          'INSERT, UPDATE, REFERENCES')), 'may change alembic_version')
    ) AS powers (number, is_held, power)
    WHERE is_held
    ORDER BY mine.rolname, number
    """
)
_ME = text("SELECT session_user")
_OPEN_TABLES = text(
    """
    SELECT relname FROM pg_class
    WHERE relnamespace = ANY (current_schemas(false)::regnamespace[]) AND relkind IN ('r', 'p')
      AND NOT (relrowsecurity AND relforcerowsecurity)
      AND (relname = 'users' OR EXISTS (SELECT FROM pg_attribute
        WHERE attrelid = pg_class.oid AND attname = 'user_id' AND NOT attisdropped))
    ORDER BY relname
    """
)
_COMMIT = text("SELECT current_setting('synchronous_commit')")


async def faults_of(session: AsyncSession, *, is_migrated: bool) -> list[str]:
    """
    One line a fault, for an operator: what is wrong and what to do.

    A migration makes its version table with the rights of any other and then takes them away.
    """
    me = await session.scalar(_ME)
    powers = (await session.execute(_POWERS, {"is_migrated": is_migrated})).all()
    faults = []
    for role, held in groupby(powers, itemgetter(0)):
        who = f"its role {role}" if role == me else f"its role {me} may become {role}, which"
        what = ", ".join(power for _, power in held)
        faults.append(
            f"DATABASE_URL: {who} {what}: log in as the API's role of {_ROLES}; run that file"
            " and `parley migrate` where it has this power"
        )
    faults += [
        f"DATABASE_URL: its table {table} lets every role past row-level security: ALTER TABLE"
        f" {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        for table in await session.scalars(_OPEN_TABLES)
    ]
    if await session.scalar(_COMMIT) == "off":
        faults.append(
            "DATABASE_URL: its synchronous_commit is off, so that a crash may lose what was answered:"
            " set it to on, for the server, the database and the role"
        )
    return faults
