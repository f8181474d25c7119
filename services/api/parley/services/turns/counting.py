"""How many turns end, and how: as their readers are told."""

from parley.core.errors import (
    AppError,
    ConversationMoved,
    ConversationNotFound,
    DatabaseUnavailable,
    Draining,
    InternalError,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    Overloaded,
    TurnCancelled,
    WorkerLost,
)
from parley.core.metrics import TURN_SECONDS, TURNS
from parley.schemas.turns import ChatReply, TurnStatus

_WITHOUT_PROBLEM = ""
_FAILURES = (
    *(ModelError, ModelTimeout, ModelUnavailable, InternalError, Draining, WorkerLost),
    *(DatabaseUnavailable, Overloaded, ConversationMoved),
)


def begin_at_nothing() -> None:
    """A series that begins with its first turn would hide that turn from every rate."""
    for code in (_WITHOUT_PROBLEM, TurnCancelled.code, ConversationNotFound.code):
        TURNS.labels(TurnStatus.CANCELLED, code)
    TURNS.labels(TurnStatus.COMPLETE, _WITHOUT_PROBLEM)
    for failure in _FAILURES:
        TURNS.labels(TurnStatus.FAILED, failure.code)


def count_end(end: ChatReply | AppError, seconds: float) -> None:
    """Of a turn that was accepted; `seconds` ago."""
    outcome, code = _outcome_of(end)
    TURNS.labels(outcome, code).inc()
    TURN_SECONDS.labels(outcome).observe(seconds)


def count_lost() -> None:
    """One whose process is gone."""
    TURNS.labels(TurnStatus.FAILED, WorkerLost.code).inc()


def _outcome_of(end: ChatReply | AppError) -> tuple[str, str]:
    if isinstance(end, ChatReply):
        return end.reply.status, _WITHOUT_PROBLEM
    # One whose conversation was deleted meanwhile did nobody wrong.
    is_wanted = isinstance(end, TurnCancelled | ConversationNotFound)
    return TurnStatus.CANCELLED if is_wanted else TurnStatus.FAILED, end.code
