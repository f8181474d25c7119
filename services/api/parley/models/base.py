"""The one declarative base, its types, and constraint names that Alembic can always find again."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, DateTime, Dialect, MetaData, Text, TypeDecorator, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, always aware and in UTC; SQLite keeps no zone of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class utc_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """
    The database's clock, so that replicas whose clocks differ agree on order and on leases.

    `utc_now(10)` is ten seconds later, `utc_now(-3600)` an hour ago.
    """

    type = UtcDateTime()
    inherit_cache = True


@compiles(utc_now, "postgresql")
def _utc_now_on_postgresql(element: utc_now, compiler: SQLCompiler, **kw: Any) -> str:
    if seconds := compiler.process(element.clauses, **kw):
        return f"clock_timestamp() + make_interval(secs => {seconds})"
    return "clock_timestamp()"


@compiles(utc_now, "sqlite")
def _utc_now_on_sqlite(element: utc_now, compiler: SQLCompiler, **kw: Any) -> str:
    # To the microsecond in form, as SQLAlchemy writes its own, so that text order is time order.
    if seconds := compiler.process(element.clauses, **kw):
        return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it once, at class creation
        str: Text(),
        UUID: Uuid(),
        datetime: UtcDateTime(),
        # Not JSONB, which would keep neither the order of keys nor 1.0 apart from 1.
        dict[str, Any]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(none_as_null=True),
    }
