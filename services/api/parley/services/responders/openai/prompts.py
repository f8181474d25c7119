"""
A prompt as OpenAI's chat completions have it.

https://platform.openai.com/docs/api-reference/chat/create
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from parley.services.responders.base import PromptAttachment, PromptMessage


def wire_message(message: PromptMessage) -> dict[str, Any]:
    """A list of parts only where there are images: not every server knows what parts are."""
    text = "\n\n".join([message.content, *map(_described, message.attachments)])
    images = [*_images(message)]
    content = [{"type": "text", "text": text}, *images] if images else text
    return {"role": message.role, "content": content}


def _described(attachment: PromptAttachment) -> str:
    file = attachment.file
    # Whoever wrote the file did not know its id, and cannot say that it ends.
    name = json.dumps(file.filename, ensure_ascii=False)
    head = f"File {file.id}: {name} ({file.content_type}, {file.size} bytes)"
    if attachment.text is not None:
        cut = ", cut here: it goes on" if attachment.is_cut else ""
        return f"[{head}]\n{attachment.text}\n[End of file {file.id}{cut}]"
    return f"[{head}]" if attachment.image else f"[{head}, which you are not shown]"


def _images(message: PromptMessage) -> Iterator[dict[str, Any]]:
    for attachment in message.attachments:
        if attachment.image:
            data = b64encode(attachment.image).decode()
            url = f"data:{attachment.file.content_type};base64,{data}"
            yield {"type": "image_url", "image_url": {"url": url}}
