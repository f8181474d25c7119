"""What answers. A responder knows nothing of users, turns or storage."""

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, NamedTuple, Protocol


class PromptMessage(NamedTuple):
    role: Literal["system", "user", "assistant"]
    content: str


class Responder(Protocol):
    @property
    def model(self) -> str:
        """What is recorded with every reply."""
        ...

    def stream(self, prompt: Sequence[PromptMessage]) -> AsyncGenerator[str]:
        """
        Yield the reply in pieces; joined, they are the whole reply.

        Who listens closes the generator early when nobody waits any more, and keeps time.

        Args:
            prompt: What the operator and the conversation ask for, then the history, oldest
                first; the last message is the user's new one.

        Raises:
            ModelUnavailable: it cannot be reached, or refuses.
            ModelError: what it says makes no sense, or it broke off.
        """
        ...
