"""
A file's bytes, or as many of them as are asked for (RFC 9110, 13 and 14).

They are a user's: never shown in a page of ours, never taken for anything but what they are, and never
kept on the way.
"""

import re
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import quote

from starlette.datastructures import Headers

from parley.core.errors import PreconditionFailed, RangeNotSatisfiable
from parley.schemas.files import FileMetadata
from parley.services.files.types import is_textual

# As one word: `attachment` is for browsers that follow a link; what is opened all the same runs nothing.
_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.IGNORECASE)
_NO_TOKEN = re.compile(r"[^ !#-$&-\[\]-~]")


class Part(NamedTuple):
    """From `start` to before `end`."""

    start: int
    end: int


def entity_tag(file: FileMetadata) -> str:
    return f'"{file.sha256}"'


def headers_of(file: FileMetadata) -> dict[str, str]:
    charset = "; charset=utf-8" if is_textual(file.content_type) else ""
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(file.filename),
        "Content-Security-Policy": _POLICY,
        "Content-Type": f"{file.content_type}{charset}",
        **validators_of(file),
    }


def validators_of(file: FileMetadata) -> dict[str, str]:
    """What a client may send back to be told whether it has the same."""
    return {
        "ETag": entity_tag(file),
        "Last-Modified": format_datetime(_modified(file), usegmt=True),
    }


def disposition(filename: str) -> str:
    """RFC 6266, with a name for those who read no other letters (appendix D)."""
    plain = _NO_TOKEN.sub("_", filename)
    extended = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


def is_known(file: FileMetadata, headers: Headers) -> bool:
    """
    Whether the client has the same already.

    Raises:
        PreconditionFailed: it wants another.
    """
    if (wanted := _listed(headers, "If-Match")) is not None:
        if not _names(file, wanted, is_weak=False):
            raise PreconditionFailed
    elif (since := _date(headers.get("If-Unmodified-Since"))) and _modified(file) > since:
        raise PreconditionFailed
    if (known := _listed(headers, "If-None-Match")) is not None:
        return _names(file, known, is_weak=True)
    since = _date(headers.get("If-Modified-Since"))
    return since is not None and _modified(file) <= since


def part_of(file: FileMetadata, headers: Headers) -> Part | None:
    """
    What is asked for of it; None for all. What makes no sense counts for nothing, and so do several
    ranges at once (RFC 9110, 14.2).

    Raises:
        RangeNotSatisfiable: nothing of it is in the file.
    """
    asked = _RANGE.fullmatch(headers.get("Range", "").strip())
    if asked is None or not any(asked.groups()) or not _still_holds(file, headers):
        return None
    first, last = asked.groups()
    if not first:
        start, end = max(0, file.size - int(last)), file.size
    elif last and int(last) < int(first):
        return None
    else:
        start, end = int(first), min(file.size, int(last) + 1) if last else file.size
    if start >= end:
        raise RangeNotSatisfiable(file.size)
    return Part(start, end)


def _still_holds(file: FileMetadata, headers: Headers) -> bool:
    condition = headers.get("If-Range", entity_tag(file)).strip()
    return condition == entity_tag(file) or _date(condition) == _modified(file)


def _listed(headers: Headers, name: str) -> str | None:
    """Of all the lines that have it, as if they were one (RFC 9110, 5.3)."""
    return ", ".join(headers.getlist(name)) if name in headers else None


def _names(file: FileMetadata, tags: str, *, is_weak: bool) -> bool:
    # No tag of ours has a comma in it.
    named = [tag.strip() for tag in tags.split(",")]
    if is_weak:
        named = [tag.removeprefix("W/") for tag in named]
    return "*" in named or entity_tag(file) in named


def _modified(file: FileMetadata) -> datetime:
    return file.created_at.replace(microsecond=0)


def _date(text: str | None) -> datetime | None:
    """None for what is none: it counts for nothing."""
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else None
