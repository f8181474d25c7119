from datetime import datetime
from typing import Literal

from pydantic import Field

from parley.schemas.base import Entity


class Health(Entity):
    status: Literal["ok"] = "ok"
    version: str
    uptime_seconds: float
    timestamp: datetime


class Readiness(Entity):
    status: Literal["ready", "not-ready"]
    database: Literal["connected", "disconnected", "refused"] = Field(
        description="`refused`: in production it must not be used so; the log says why."
    )
    schema_revision: str | None = Field(description="Of the database; null while it is not known.")
    draining: bool


class Pool(Entity):
    """Connections of this process."""

    size: int
    in_use: int
    overflow: int


class DatabaseHealth(Entity):
    status: Literal["ok", "error"]
    latency_seconds: float | None
    pool: Pool | None
    revision: str | None


class ServiceHealth(Entity):
    status: Literal["ok", "error"]
    database: Literal["connected", "disconnected"]
    timestamp: datetime
