"""Conversations, their turns, and the model."""

from parley.core.errors.base import AppError, Conflict, NotFound


class ConversationNotFound(NotFound):
    code, title = "conversation-not-found", "Conversation not found"

    def __init__(self) -> None:
        super().__init__("You have no conversation with this id.")


class TurnNotFound(NotFound):
    code, title = "turn-not-found", "Turn not found"

    def __init__(self) -> None:
        super().__init__("You have no turn with this id.")


class TurnInProgress(Conflict):
    code, title = "turn-in-progress", "Another turn of this conversation is running"

    def __init__(self) -> None:
        super().__init__(
            "Send it again when the running turn has ended, or with `if_busy` `wait`."
        )


class ConversationMoved(Conflict):
    code, title = "conversation-moved", "The conversation moved on during this turn"

    def __init__(self) -> None:
        super().__init__("Another turn was recorded first; read the conversation and try again.")


class NothingToRegenerate(Conflict):
    code, title = "nothing-to-regenerate", "The conversation has no reply to replace"

    def __init__(self) -> None:
        super().__init__("Send a message first.")


class TurnCancelled(Conflict):
    code, title = "turn-cancelled", "The turn was cancelled before its first word"

    def __init__(self) -> None:
        super().__init__("Nothing was recorded but your message; send it again if it is wanted.")


class EventsGone(AppError):
    status, code, title = 410, "events-gone", "The turn's events are not kept any more"

    def __init__(self) -> None:
        super().__init__("The turn itself has the reply: GET /api/v1/turns/{turn_id}.")


class ModelError(AppError):
    status, code, title = 502, "model-error", "The model's reply broke off or made no sense"


class ReplyTooLong(ModelError):
    def __init__(self) -> None:
        super().__init__("The reply was longer than REPLY_MAX_CHARACTERS allows, and was cut.")


class ModelTimeout(AppError):
    status, code, title = 504, "model-timeout", "The model did not answer in time"
