"""What answers. A responder knows nothing of users, turns or storage."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from parley.core.errors import AppError
from parley.schemas.files import FileMetadata


class PromptAttachment(NamedTuple):
    """
    A file that a message carries; with its text, all of it or as far as there was room, or as an image
    if the model takes such. With neither it is named alone.
    """

    file: FileMetadata
    text: str | None = None
    is_cut: bool = False
    image: bytes | None = None


class PromptMessage(NamedTuple):
    role: Literal["system", "user", "assistant"]
    content: str
    attachments: tuple[PromptAttachment, ...] = ()


class Receipt(NamedTuple):
    """What wrote the reply, and what it counted, if it did: tokens, by the names it gives them."""

    model: str
    usage: Mapping[str, int] | None = None


class Fault(Exception):
    """
    No reply, or no whole one. The message is for the operator, `error` for the client.

    Neither has a word of the other side's: it may quote the prompt, or the key.
    """

    def __init__(self, reason: str, error: AppError) -> None:
        super().__init__(reason)
        self.error = error


class Responder(Protocol):
    def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str | Receipt]:
        """
        Yield the reply in pieces; joined, they are the whole reply. An empty one is a sign of life.

        A receipt may be among them; without one the reply is taken for `model`'s.
        Who listens closes the generator early when nobody waits any more, and keeps time.

        Args:
            prompt: What the operator and the conversation ask for, then the history, oldest
                first; the last message is the user's new one.
            model: Which is asked, of those that the operator offers.

        Raises:
            Fault: it cannot be reached, refuses, makes no sense, or broke off.
        """
        ...
