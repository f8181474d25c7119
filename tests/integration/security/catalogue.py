"""What PostgreSQL's catalogue says of who may see what, as a list of what is wrong."""

import re

import asyncpg

# Every other table has an owner's column and policies. These have no word of a user's.
OF_NOBODY = {
    "workers": "which processes live",
    "alembic_version": "which schema this is; the API only reads it",
}
# What is asked for before it is known who asks: the one row that has this value.
LOOKED_UP_BY = {"users": "email", "refresh_tokens": "hash", "api_keys": "hash"}
OWNER_OF = {"users": "id"}

OF_THE_USER = "{column} = NULLIF(current_setting('app.user_id'::text, true), ''::text)"
OF_THE_LOOKUP = "{column} = NULLIF(current_setting('app.lookup'::text, true), ''::text)"
WRITES = {"SELECT", "INSERT", "UPDATE", "DELETE"}


async def faults(owner: asyncpg.Connection, api: str) -> list[str]:
    """Empty where all holds; `api` is the API's role."""
    tables = await _tables(owner)
    owned = {name for name, columns in tables.items() if OWNER_OF.get(name, "user_id") in columns}
    owned -= OF_NOBODY.keys()
    return [
        *(f"{name} has no owner's column" for name in tables.keys() - owned - OF_NOBODY.keys()),
        *await _not_forced(owner, owned),
        *await _policies(owner, owned),
        *await _keys(owner, owned),
        *await _ways_around(owner),
        *await _grants(owner, api),
    ]


async def _tables(owner: asyncpg.Connection) -> dict[str, set[str]]:
    rows = await owner.fetch(
        """
        SELECT relname, array_agg(attname::text) AS columns
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        GROUP BY relname
        """
    )
    return {row["relname"]: set(row["columns"]) for row in rows}


async def _not_forced(owner: asyncpg.Connection, owned: set[str]) -> list[str]:
    rows = await owner.fetch(
        """
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relname = ANY ($1)
          AND NOT (relrowsecurity AND relforcerowsecurity)
        """,
        [*owned],
    )
    return [f"{row['relname']} does not force its policies" for row in rows]


async def _policies(owner: asyncpg.Connection, owned: set[str]) -> list[str]:
    rows = await owner.fetch("SELECT * FROM pg_policies WHERE schemaname = 'public'")
    found = []
    with_owner = set()
    for row in rows:
        table, shows, takes = row["tablename"], _bare(row["qual"]), _bare(row["with_check"])
        mine = OF_THE_USER.format(column=OWNER_OF.get(table, "user_id"))
        looked_up = OF_THE_LOOKUP.format(column=LOOKED_UP_BY.get(table))
        if (row["cmd"], row["permissive"], shows, takes) == ("ALL", "PERMISSIVE", mine, mine):
            with_owner.add(table)
        elif (row["cmd"], shows, takes) != ("SELECT", looked_up, None):
            found.append(f"{table} has a policy that nobody knows: {row['policyname']}")
    return found + [f"{table} has no owner's policy" for table in owned - with_owner]


def _bare(expression: str | None) -> str | None:
    return expression and re.sub(r"^\((.*)\)$", r"\1", expression)


async def _keys(owner: asyncpg.Connection, owned: set[str]) -> list[str]:
    """Each key leads with the owner: two users' rows neither collide nor refer to each other."""
    indexes = await owner.fetch(
        """
        SELECT i.indrelid::regclass::text AS table, i.indexrelid::regclass::text AS name,
          pg_get_indexdef(i.indexrelid, 1, true) AS first
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique AND c.relname = ANY ($1)
        """,
        [*owned],
    )
    foreign = await owner.fetch(
        """
        SELECT conrelid::regclass::text AS table, conname AS name, a.attname AS from,
          f.attname AS to
        FROM pg_constraint
        JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = conkey[1]
        JOIN pg_attribute f ON f.attrelid = confrelid AND f.attnum = confkey[1]
        WHERE contype = 'f' AND connamespace = 'public'::regnamespace
        """
    )
    return [
        f"{row['table']}: {row['name']} does not lead with the owner"
        for row in indexes
        if row["first"]
        not in {OWNER_OF.get(row["table"], "user_id"), LOOKED_UP_BY.get(row["table"])}
    ] + [
        f"{row['table']}: {row['name']} does not lead with the owner"
        for row in foreign
        if (row["from"], row["to"]) != ("user_id", "user_id")
    ]


async def _ways_around(owner: asyncpg.Connection) -> list[str]:
    rows = await owner.fetch(
        """
        SELECT relname AS name, 'sees with its owner''s eyes' AS fault FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm', 'f')
          AND NOT (relkind = 'v' AND coalesce(reloptions, '{}') && ARRAY['security_invoker=true',
            'security_invoker=on', 'security_invoker=1'])
        UNION ALL SELECT proname, 'runs with its owner''s powers' FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prosecdef
        """
    )
    return [f"{row['name']} {row['fault']}" for row in rows]


async def _grants(owner: asyncpg.Connection, api: str) -> list[str]:
    rows = await owner.fetch(
        """
        SELECT relname, pg_get_userbyid(relowner) AS owner,
          CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END AS grantee,
          array_agg(privilege_type) AS privileges
        FROM pg_class CROSS JOIN LATERAL aclexplode(relacl)
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
        GROUP BY relname, relowner, grantee
        """
    )
    given = {(row["relname"], row["grantee"]): set(row["privileges"]) for row in rows}
    owners = {row["owner"] for row in rows}
    names = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    wanted = {
        (row["relname"], api): {"SELECT"} if row["relname"] == "alembic_version" else WRITES
        for row in names
    }
    others = {key: value for key, value in given.items() if key[1] not in owners}
    return [
        f"{table}: {role} has {sorted(others.get((table, role), ()))}"
        for table, role in others.keys() | wanted.keys()
        if others.get((table, role)) != wanted.get((table, role))
    ]
