from fastapi import APIRouter, Response

from parley.dependencies.services import HealthChecks
from parley.routers._responses import problems
from parley.schemas.health import DatabaseHealth, Health, Readiness, ServiceHealth

router = APIRouter(tags=["health"], responses=problems())

_RETRY_AFTER = "2"
_NOT_NOW = "Not now; the body says what is missing."


@router.get("/health")
async def get_health(health: HealthChecks) -> Health:
    """Whether the process lives. Asks nobody else: for liveness and start-up probes."""
    return health.alive()


@router.get("/health/ready", responses={503: {"model": Readiness, "description": _NOT_NOW}})
async def get_readiness(health: HealthChecks, response: Response) -> Readiness:
    """
    Whether this process may be sent requests.

    503 until the database has answered once with this release's schema or a later one, and while
    the process shuts down; 200 through a later outage, which `database` shows.
    """
    readiness = await health.ready()
    _answer(response, healthy=readiness.status == "ready")
    return readiness


@router.get("/health/db", responses={503: {"model": DatabaseHealth, "description": _NOT_NOW}})
async def get_database_health(health: HealthChecks, response: Response) -> DatabaseHealth:
    """Whether the database answers, how fast, and how busy this process's connections are."""
    database = await health.database()
    _answer(response, healthy=database.status == "ok")
    return database


@router.get("/api/health", responses={503: {"model": ServiceHealth, "description": _NOT_NOW}})
async def get_service_health(health: HealthChecks, response: Response) -> ServiceHealth:
    """In one word, for a status page."""
    service = await health.service()
    _answer(response, healthy=service.status == "ok")
    return service


def _answer(response: Response, *, healthy: bool) -> None:
    if not healthy:
        response.status_code = 503
        response.headers["Retry-After"] = _RETRY_AFTER
