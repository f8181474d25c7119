"""What answers. A responder knows nothing of users, turns or storage."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol


class PromptMessage(NamedTuple):
    role: Literal["system", "user", "assistant"]
    content: str


class Receipt(NamedTuple):
    """What wrote the reply, and what it counted, if it did: tokens, by the names it gives them."""

    model: str
    usage: Mapping[str, int] | None = None


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
            ModelUnavailable: it cannot be reached, or refuses.
            ModelError: what it says makes no sense, or it broke off.
        """
        ...
