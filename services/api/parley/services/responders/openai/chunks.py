"""
What a stream says, chunk by chunk, of which nothing may be believed.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from parley.schemas.base import JSON_INTEGER_MAX
from parley.services.responders.base import Receipt
from parley.services.responders.openai.faults import Nonsense

MODEL_MAX_CHARACTERS = 200
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_FIRST_HALF = re.compile("[\ud800-\udbff]\\Z")
# vLLM's and OpenRouter's words for a reply that they could not end.
_BROKEN_OFF = {"abort", "error"}


@dataclass
class Said:
    """What is known of a reply so far, besides its text."""

    model: str
    """The one that was asked, until it says its own name."""
    usage: Mapping[str, int] | None = None
    is_finished: bool = False
    _half: str = ""
    """Of a character that JSON escapes as two; the other may come with the next piece."""

    @property
    def receipt(self) -> Receipt:
        return Receipt(self.model, self.usage)

    def take(self, chunk: object) -> str:
        """
        The chunk's piece of the reply; empty where it has none, as one of reasoning.

        Raises:
            Nonsense: it is no chunk, or one that says that the reply broke off.
        """
        if not isinstance(chunk, dict):
            msg = "a chunk is no object"
            raise Nonsense(msg)
        self.model = _name(chunk.get("model")) or self.model
        self.usage = _counts(chunk.get("usage")) or self.usage
        match chunk.get("choices"):
            case None | []:
                return ""
            case [{"finish_reason": str(reason)}, *_] if reason in _BROKEN_OFF:
                msg = "it says that it broke off"
                raise Nonsense(msg)
            case [dict(choice), *_]:
                # Some say "" for "not yet".
                self.is_finished |= bool(choice.get("finish_reason"))
                return self._storable(_text(choice.get("delta")))
            case _:
                msg = "its choices are none"
                raise Nonsense(msg)

    def _storable(self, text: str) -> str:
        text = self._half + text
        half = _FIRST_HALF.search(text)
        self._half = half[0] if half else ""
        # PostgreSQL keeps no NUL, UTF-8 no lone surrogate.
        utf_16 = text.removesuffix(self._half).encode("utf-16", "surrogatepass")
        return utf_16.decode("utf-16", "ignore").replace("\0", "")


def names_of(listing: object) -> set[str]:
    """
    Raises:
        Nonsense: it lists no models.
    """
    match listing:
        case {"data": list(models)}:
            return {
                model["id"]
                for model in models
                if isinstance(model, dict) and isinstance(model.get("id"), str)
            }
        case _:
            msg = "what it answered lists no models"
            raise Nonsense(msg)


def _text(delta: object) -> str:
    match delta:
        case {"content": str(text)}:
            return text
        case None | {"content": None}:
            return ""
        case dict() if "content" not in delta:
            return ""
        case _:
            msg = "a piece is no text"
            raise Nonsense(msg)


def _name(model: object) -> str | None:
    is_sane = isinstance(model, str) and len(model) <= MODEL_MAX_CHARACTERS and model.isprintable()
    return str(model) if is_sane else None


def _counts(usage: object) -> Mapping[str, int] | None:
    if not isinstance(usage, dict):
        return None
    counted = {name: usage[name] for name in COUNTS if _is_count(usage.get(name))}
    return counted or None


def _is_count(value: object) -> bool:
    # A bool is an int to Python.
    return type(value) is int and 0 <= value <= JSON_INTEGER_MAX
