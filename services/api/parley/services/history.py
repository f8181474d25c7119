"""What the model is shown of a conversation."""

from collections.abc import Sequence

from parley.core.metrics import HISTORY_SECONDS
from parley.crud.ports import Transaction
from parley.schemas.conversations import Conversation, Message, Role
from parley.schemas.files import FileMetadata
from parley.schemas.turns import NewTurn, follows
from parley.services.responders.base import PromptAttachment, PromptMessage


class History:
    def __init__(
        self, *, system_prompt: str | None, max_messages: int, max_characters: int
    ) -> None:
        self._system_prompt = system_prompt
        self._max_messages = max_messages
        self._max_characters = max_characters

    async def prompt(
        self, tx: Transaction, conversation: Conversation, turn: NewTurn
    ) -> list[PromptMessage]:
        """
        The operator's and the conversation's instructions, the newest turns, the user's new message.

        However little fits, instructions and message are among it. Neither a failed turn is nor the
        one that this one replaces.
        """
        with HISTORY_SECONDS.time():
            said = await tx.messages.history(
                conversation.id,
                follows(turn, conversation.length),
                max_messages=self._max_messages,
                max_characters=self._max_characters,
            )
        # One message: the templates of many models take no second one.
        wishes = [wish for wish in (self._system_prompt, conversation.instructions) if wish]
        return [
            *([PromptMessage("system", "\n\n".join(wishes))] if wishes else ()),
            *(_shown(message) for message in whole_turns(said)),
            PromptMessage("user", turn.message, _named(turn.attachments)),
        ]


def _shown(message: Message) -> PromptMessage:
    return PromptMessage(message.role.value, message.content, _named(message.attachments))


def _named(files: Sequence[FileMetadata]) -> tuple[PromptAttachment, ...]:
    """What is in them is read when no transaction is open any more."""
    return tuple(map(PromptAttachment, files))


def whole_turns(said: Sequence[Message]) -> Sequence[Message]:
    """Without the reply whose message did not fit any more."""
    is_split = said and said[0].role is Role.ASSISTANT
    return said[1:] if is_split else said
