"""What Parley counts besides its requests. `routers/metrics.py` shows it, for all processes."""

from prometheus_client import Counter, Gauge

REDIS_AWAY = Gauge(
    "parley_redis_away",
    "Processes that limit by themselves, for Redis does not answer.",
    registry=None,
    multiprocess_mode="livesum",
)
REDIS_OUTAGES = Counter(
    "parley_redis_outages_total",
    "Times that a process found Redis not answering.",
    registry=None,
)
ALL = (REDIS_AWAY, REDIS_OUTAGES)
