"""
Who did what to an account, or tried to: one line each, for those who watch over an installation.

Logged whatever LOG_LEVEL is. A line has names, ids and an address, and never a password, a token,
a key or an e-mail address. docs/logging.md lists the events and says how to ship them.
"""

import logging
from contextvars import ContextVar
from enum import StrEnum
from uuid import UUID

import structlog

from parley.core.logging import AUDIT_LOGGER

client_address: ContextVar[str | None] = ContextVar("client_address", default=None)
"""The address that the request came from; None for a command."""


class Event(StrEnum):
    REGISTERED = "registered"
    SIGNED_IN = "signed-in"
    SIGN_IN_REFUSED = "sign-in-refused"
    REFRESH_REFUSED = "refresh-refused"
    REFRESH_REUSED = "refresh-reused"
    SIGNED_OUT = "signed-out"
    PASSWORD_CHANGED = "password-changed"  # noqa: S105 - the name of an event
    PASSWORD_CHANGE_REFUSED = "password-change-refused"  # noqa: S105 - as above
    ACCOUNT_DISABLED = "account-disabled"
    ACCOUNT_ENABLED = "account-enabled"
    ACCOUNT_DELETED = "account-deleted"
    KEY_CREATED = "key-created"
    KEY_DELETED = "key-deleted"
    TOKEN_REFUSED = "token-refused"  # noqa: S105 - as above
    ACCESS_REFUSED = "access-refused"
    RATE_LIMITED = "rate-limited"


# Not the filtering logger of all the others, which knows LOG_LEVEL and nothing else.
_log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger(AUDIT_LOGGER), wrapper_class=structlog.stdlib.BoundLogger
)


def record(event: Event, user_id: str | None, **facts: str | UUID) -> None:
    """`user_id` is whom it is about; None where that is not known."""
    _log.info(
        event.value,
        user_id=user_id,
        client_address=client_address.get(),
        **{name: str(fact) for name, fact in facts.items()},
    )
