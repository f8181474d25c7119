"""Everything that is asked of the floors below, made of what the settings say."""

from parley.wiring.back_ends import (
    open_blobs,
    open_openai,
    open_responder,
    open_sessions,
    open_store,
)
from parley.wiring.services import services_of
from parley.wiring.turns import turn_services

__all__ = [
    "open_blobs",
    "open_openai",
    "open_responder",
    "open_sessions",
    "open_store",
    "services_of",
    "turn_services",
]
