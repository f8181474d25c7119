"""
`parley doctor`: what can be seen from inside of each fault, and what to do about it.

docs/runbook.md has a section for each, and for those that show only from outside.
"""

from collections.abc import Sequence

from parley.cli.doctor.database import examine_database
from parley.cli.doctor.finding import Finding
from parley.cli.doctor.surroundings import (
    examine_files,
    examine_issuers,
    examine_model,
    examine_redis,
)
from parley.core.errors import Unavailable
from parley.core.settings import InvalidSettings, Settings, load_settings
from parley.wiring import open_store

__all__ = ["Finding", "examine", "examine_database", "refusals"]


async def examine() -> list[Finding]:
    """Everything that can be seen from here; what depends on something broken is left out."""
    try:
        settings = load_settings()
        settings.check_serving()
    except InvalidSettings as invalid:
        return [Finding("settings", ok=False, detail=fault) for fault in invalid.faults]
    return [
        Finding("settings", ok=True, detail=settings.environment),
        *await examine_database(settings),
        await examine_redis(settings),
        await examine_files(settings),
        *await examine_issuers(settings),
        await examine_model(settings),
    ]


async def refusals(settings: Settings) -> Sequence[str]:
    """What keeps production from this database, as far as it answers now."""
    if not settings.is_production:
        return ()
    store = open_store(settings)
    try:
        return await store.faults()
    except Unavailable:
        return ()
    finally:
        await store.close()
