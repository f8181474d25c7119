"""Every table, so that `Base.metadata` is whole for whoever imports it."""

from parley.models.base import Base, UtcDateTime, utc_now
from parley.models.conversation import ConversationRow
from parley.models.credential import ApiKeyRow, RefreshTokenRow
from parley.models.file import FileRow, TurnAttachmentRow
from parley.models.message import MessageRow
from parley.models.turn import TurnRow, WorkerRow
from parley.models.user import UserRow

__all__ = [
    "ApiKeyRow",
    "Base",
    "ConversationRow",
    "FileRow",
    "MessageRow",
    "RefreshTokenRow",
    "TurnAttachmentRow",
    "TurnRow",
    "UserRow",
    "UtcDateTime",
    "WorkerRow",
    "utc_now",
]
