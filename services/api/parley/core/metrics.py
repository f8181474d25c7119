"""What Parley counts besides its requests. `routers/metrics.py` shows it, for all processes."""

from prometheus_client import Counter, Gauge, Histogram

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
HISTORY_SECONDS = Histogram(
    "parley_history_seconds",
    "Reading what the model is shown of a conversation.",
    registry=None,
)
FIRST_PIECE_SECONDS = Histogram(
    "parley_model_first_piece_seconds",
    "From asking the model to the first piece of its reply.",
    ["model"],
    registry=None,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
ALL = (FIRST_PIECE_SECONDS, HISTORY_SECONDS, REDIS_AWAY, REDIS_OUTAGES)
