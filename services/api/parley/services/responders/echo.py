import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

from parley.services.responders.base import PromptAttachment, PromptMessage

# A word with the white space behind it: joined again, nothing is lost.
_WORDS = re.compile(r"\S+\s*|\s+")
_FIRST_WORDS = 5


class EchoResponder:
    """Says back what it heard and what it remembers: a client can be tried with no model."""

    async def stream(self, prompt: Sequence[PromptMessage], model: str) -> AsyncGenerator[str]:
        *history, asked = [message for message in prompt if message.role != "system"]
        given = "".join(f"{_given(attachment)}\n" for attachment in asked.attachments)
        reply = f"You said: {asked.content}\n{given}{_memory(history)}"
        for word in _WORDS.findall(reply):
            yield word
            # As a real model does between words: let others run.
            await asyncio.sleep(0)


def _given(attachment: PromptAttachment) -> str:
    file, text = attachment.file, attachment.text
    if text is not None:
        what = f"{'the first ' if attachment.is_cut else ''}{len(text)} characters of it"
    else:
        what = "the image" if attachment.image else "its name alone"
    return f"I was given {file.filename} ({file.content_type}, {file.size} bytes): {what}."


def _memory(history: Sequence[PromptMessage]) -> str:
    said = [message.content for message in history if message.role == "user"]
    if not said:
        return "I remember nothing yet."
    words = " ".join(said[-1].split()[:_FIRST_WORDS])
    return f"I remember {len(history)} earlier messages; you last said: {words}."
