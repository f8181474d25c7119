"""
What Parley counts besides its requests. `routers/metrics.py` shows it, for all processes.

Labels come from code and settings, never from a request: each value of one is a series for ever.
What a gauge holds goes with its process, what was counted stays.
"""

from prometheus_client import Counter, Gauge, Histogram

_TURN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_ROUND_TRIP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2)

TURNS = Counter(
    "parley_turns_total",
    "Turns that were accepted and have ended: complete, cancelled or failed, and the problem's code.",
    ["outcome", "code"],
    registry=None,
)
TURN_SECONDS = Histogram(
    "parley_turn_seconds",
    "From a turn's acceptance until its readers are told its end.",
    ["outcome"],
    registry=None,
    buckets=_TURN_BUCKETS,
)
TURNS_RUNNING = Gauge(
    "parley_turns_running",
    "Turns that are on their way, those included that wait to be accepted.",
    registry=None,
    multiprocess_mode="livesum",
)
FIRST_PIECE_SECONDS = Histogram(
    "parley_model_first_piece_seconds",
    "From asking the model to the first piece of its reply.",
    ["model"],
    registry=None,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
HISTORY_SECONDS = Histogram(
    "parley_history_seconds",
    "Reading what the model is shown of a conversation.",
    registry=None,
)
DATABASE_IN_USE = Gauge(
    "parley_database_connections_in_use",
    "Transactions that are open: each has a connection.",
    ["database"],
    registry=None,
    multiprocess_mode="livesum",
)
DATABASE_WAITING = Gauge(
    "parley_database_connections_waited_for",
    "Transactions that wait for a connection.",
    ["database"],
    registry=None,
    multiprocess_mode="livesum",
)
DATABASE_CONNECTIONS_MAX = Gauge(
    "parley_database_connections_max",
    "Connections that may be open: DATABASE_POOL_SIZE and DATABASE_POOL_OVERFLOW of each process.",
    ["database"],
    registry=None,
    multiprocess_mode="livesum",
)
DATABASE_REFUSALS = Counter(
    "parley_database_refusals_total",
    "Transactions that came to nothing: database-unavailable, or overloaded, for want of room or of time.",
    ["database", "code"],
    registry=None,
)
DATABASE_AWAY = Gauge(
    "parley_database_away",
    "Processes that refuse at once, for the database cannot be reached.",
    ["database"],
    registry=None,
    multiprocess_mode="livesum",
)
STREAM_LOG_SECONDS = Histogram(
    "parley_stream_log_seconds",
    "Appending to the stream log, and reading from it, some turns at once.",
    ["operation"],
    registry=None,
    buckets=_ROUND_TRIP_BUCKETS,
)
STREAM_LOG_FAILURES = Counter(
    "parley_stream_log_failures_total",
    "Times that the stream log did not take what was appended or give what was asked for.",
    ["operation", "reason"],
    registry=None,
)
TURNS_FOLLOWED = Gauge(
    "parley_turns_followed",
    "Turns that are read here while they run, or ran, in another process.",
    registry=None,
    multiprocess_mode="livesum",
)
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
LIMITER_FALLBACKS = Counter(
    "parley_limiter_fallbacks_total",
    "Times that a process decided by itself what is allowed, for Redis did not answer.",
    ["limit"],
    registry=None,
)
LEASES_HELD = Gauge(
    "parley_leases_held",
    "Processes that hold their lease: they may begin turns.",
    registry=None,
    multiprocess_mode="livesum",
)
LEASES_LOST = Gauge(
    "parley_leases_lost",
    "Processes of any replica whose lease ran out in the last ten minutes, and was not given back.",
    registry=None,
    multiprocess_mode="livemax",
)
LOG_LINES_DROPPED = Counter(
    "parley_log_lines_dropped_total",
    "Lines that were not logged, for nobody read those before them.",
    registry=None,
)
ALL = (
    *(TURNS, TURN_SECONDS, TURNS_RUNNING, FIRST_PIECE_SECONDS, HISTORY_SECONDS),
    *(
        DATABASE_IN_USE,
        DATABASE_WAITING,
        DATABASE_CONNECTIONS_MAX,
        DATABASE_REFUSALS,
        DATABASE_AWAY,
    ),
    *(STREAM_LOG_SECONDS, STREAM_LOG_FAILURES, TURNS_FOLLOWED),
    *(REDIS_AWAY, REDIS_OUTAGES, LIMITER_FALLBACKS),
    *(LEASES_HELD, LEASES_LOST, LOG_LINES_DROPPED),
)
