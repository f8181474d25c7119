"""
The doors to storage. Services know these names and nothing behind them.

Every method of a transaction touches only the rows of the user it was begun for; what belongs to
somebody else is, to it, not there. Each may raise `DatabaseUnavailable` or `Overloaded`.
"""

from parley.crud.ports.accounts import Accounts, BetterAuthSessions, Keys, Sessions
from parley.crud.ports.conversations import Conversations, Messages, Turns
from parley.crud.ports.files import Blobs, BlobWriter, Files, Ledger
from parley.crud.ports.shared import SLOT_SECONDS, Common, Limiter, Slots
from parley.crud.ports.store import (
    DEAD_SECONDS,
    LEASE_SECONDS,
    LOST_SECONDS,
    SCHEMA_REVISION,
    Store,
    Transaction,
)
from parley.crud.ports.streams import SILENCE_SECONDS_MAX, Place, StreamLog, Stretch

__all__ = [
    "DEAD_SECONDS",
    "LEASE_SECONDS",
    "LOST_SECONDS",
    "SCHEMA_REVISION",
    "SILENCE_SECONDS_MAX",
    "SLOT_SECONDS",
    "Accounts",
    "BetterAuthSessions",
    "BlobWriter",
    "Blobs",
    "Common",
    "Conversations",
    "Files",
    "Keys",
    "Ledger",
    "Limiter",
    "Messages",
    "Place",
    "Sessions",
    "Slots",
    "Store",
    "StreamLog",
    "Stretch",
    "Transaction",
    "Turns",
]
