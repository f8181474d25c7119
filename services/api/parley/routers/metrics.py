"""What Prometheus scrapes: how many requests, of which route, with which end, how long."""

import asyncio
from collections.abc import Callable
from http import HTTPMethod, HTTPStatus

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.metrics import Info, default

from parley.core import metrics
from parley.core.counts import exposition

PATH = "/metrics"
# A reply that is not streamed takes as long as the model does.
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_METHODS = frozenset(HTTPMethod)
_NOT_TAKEN = str(HTTPStatus.METHOD_NOT_ALLOWED.value)


def install(app: FastAPI) -> None:
    """
    Count every request but the probes' own.

    Where `parley serve` runs it, the counts are those of all its processes, also of dead ones.
    A label is a route's template or `none`, never a path: its ids would make a series each; and a
    method that the route takes, or `other`.
    A stream's duration is that until its first byte.
    """
    # Its own: the library refuses to count for a second application in one registry.
    registry = CollectorRegistry()
    # Of several processes all counts are read from their files; this is for one alone.
    for metric in metrics.ALL:
        registry.register(metric)
    Instrumentator(
        should_group_status_codes=False,
        excluded_handlers=[f"^{PATH}$", "^/health"],
        registry=registry,
    ).add(_counting(registry)).instrument(app)

    @app.get(PATH, include_in_schema=False)
    async def get_metrics() -> Response:
        # Reads files, and may wait for who joins two of them.
        told = await asyncio.to_thread(exposition, registry)
        return Response(told, media_type=CONTENT_TYPE_LATEST)


def _counting(registry: CollectorRegistry) -> Callable[[Info], None]:
    count = default(
        should_exclude_streaming_duration=True, latency_lowr_buckets=SECONDS, registry=registry
    )
    assert count is not None  # noqa: S101 - only a registry that has them already gives None

    def count_request(request: Info) -> None:
        # The parser knows some fifty, and each of them at each route would be a histogram.
        if request.modified_status == _NOT_TAKEN or request.method not in _METHODS:
            request.method = "other"
        count(request)

    return count_request
