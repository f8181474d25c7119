"""
What a file is, whatever it says: by its first bytes, and by whether it is text.

Nothing of it is run, expanded or rendered here; a type says what a client and a model may make of it.
"""

import codecs
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from mimetypes import MimeTypes

import puremagic
from puremagic.main import magic_header_array, multi_part_dict

from parley.core.errors import FileTypeRefused
from parley.core.media_types import MEDIA_TYPE

UNKNOWN = "application/octet-stream"
PLAIN = "text/plain"
ZIP = "application/zip"
HEAD_BYTES = 4096
"""As many as all but a few signatures look at."""

_OFFICE = "application/vnd.openxmlformats-officedocument."
# What else browsers, systems and the library call them.
_ALIASES = {
    "application/geo+json": "application/json",
    "application/javascript": "text/javascript",
    "application/jsonl": "text/plain",
    "application/sql": "text/x-sql",
    "application/toml": "text/x-toml",
    "application/typescript": "text/typescript",
    "application/x-ipynb+json": "application/json",
    "application/x-javascript": "text/javascript",
    "application/x-ndjson": "text/plain",
    "application/x-python-code": "text/x-python",
    "application/x-sh": "text/x-sh",
    "application/x-shellscript": "text/x-sh",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": ZIP,
    "application/xml": "text/xml",
    "application/yaml": "text/yaml",
    "application/x-yaml": "text/yaml",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "image/jpg": "image/jpeg",
    "image/x-ms-bmp": "image/bmp",
    "text/x-markdown": "text/markdown",
}
# What browsers say of CSV where Excel is there.
_WINDOWS_CSV = "application/vnd.ms-excel"
# What may be made of letters alone. Other signatures are words that a text may begin with.
_NEVER_TEXT = {"application/pdf", "image/gif"}
_TEXTUAL = {"application/json", "application/xhtml+xml", "image/svg+xml"}
# Python 3.11 knows none of these.
_EXTENSIONS = {
    ".docx": f"{_OFFICE}wordprocessingml.document",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".pptx": f"{_OFFICE}presentationml.presentation",
    ".webp": "image/webp",
    ".xlsx": f"{_OFFICE}spreadsheetml.sheet",
    ".yaml": "text/yaml",
    ".yml": "text/yaml",
}
_BY_NAME = MimeTypes()
for _extension, _type in _EXTENSIONS.items():
    _BY_NAME.add_type(_type, _extension)
_TEXT_CONTROLS = b"\t\n\v\f\r\b\x1b"
_NO_TEXT = bytes(set(range(32)) - set(_TEXT_CONTROLS))


def is_textual(content_type: str) -> bool:
    """Whether what is of this type is text, for a reader and for a model."""
    return content_type.startswith("text/") or content_type in _TEXTUAL


class Sniffer:
    """Is shown a file as it comes, and keeps its first bytes."""

    def __init__(self) -> None:
        self.head = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_text = True

    def feed(self, data: bytes) -> None:
        if len(self.head) < HEAD_BYTES:
            self.head += data[: HEAD_BYTES - len(self.head)]
        if self._is_text:
            self._is_text = len(data.translate(None, _NO_TEXT)) == len(data) and self._decodes(
                data
            )

    def is_text(self) -> bool:
        """UTF-8, and of no control characters but those that text has. Behind its last bytes."""
        return self._is_text and self._decodes(b"", final=True)

    def _decodes(self, data: bytes, *, final: bool = False) -> bool:
        try:
            self._decoder.decode(data, final)
        except UnicodeDecodeError:
            return False
        return True


class FileTypes:
    """`allowed` are those that a file may claim: types, and `text/*` for all of a kind."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = allowed

    def admit(self, claim: str) -> str:
        """
        What a client says a file is, in the one word there is for it; UNKNOWN if it says nothing.

        Raises:
            FileTypeRefused: no such file is taken.
        """
        claim = claim.partition(";")[0].strip().lower() or UNKNOWN
        claim = _ALIASES.get(claim, claim)
        if claim == _WINDOWS_CSV and not self._allows(claim):
            return UNKNOWN
        if claim != UNKNOWN and not (MEDIA_TYPE.fullmatch(claim) and self._allows(claim)):
            msg = "What is taken: {}. What says nothing of its type is taken as it is.".format
            raise FileTypeRefused(msg(", ".join(self._allowed)))
        return claim

    def confirm(self, claim: str, filename: str, sniffer: Sniffer) -> str:
        """
        The type of what was claimed to be an admitted `claim`, and has come to its end.

        Raises:
            FileTypeRefused: it is something else.
        """
        found = _signatures(sniffer.head)
        is_text = sniffer.is_text()
        if claim == UNKNOWN:
            return self._guess(filename, found, is_text=is_text)
        if is_textual(claim):
            is_it = is_text and _NEVER_TEXT.isdisjoint(found)
        else:
            is_it = claim in found or (not found and not is_text and claim not in _signed_types())
        if not is_it:
            msg = (
                f"Its bytes are not those of {claim}; text is UTF-8. Send it as what it is, or as"
                f" {UNKNOWN}, which is taken for what it looks like."
            )
            raise FileTypeRefused(msg)
        return claim

    def _guess(self, filename: str, found: Sequence[str], *, is_text: bool) -> str:
        """Of what is allowed the most that its bytes say; its name decides only between those."""
        named = _BY_NAME.guess_type(filename, strict=False)[0] or UNKNOWN
        named = _ALIASES.get(named, named)
        if is_text and _NEVER_TEXT.isdisjoint(found):
            guesses = [named] if is_textual(named) else []
            guesses.append(PLAIN)
        elif ZIP in found:  # and whatever is made of one
            guesses = [named] if named in found else []
            guesses.append(ZIP)
        else:
            # What begins as a text and is none is nothing.
            guesses = [name for name in found[:1] if not is_textual(name)]
        return next(filter(self._allows, guesses), UNKNOWN)

    def _allows(self, content_type: str) -> bool:
        return any(fnmatchcase(content_type, pattern) for pattern in self._allowed)


def _signatures(head: bytes) -> list[str]:
    """What its first bytes say that it is; the likeliest first."""
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):  # nothing, in the release for Python 3.11
        return []
    names = (match.mime_type.lower() for match in matches if match.mime_type)
    return list(dict.fromkeys(_ALIASES.get(name, name) for name in names))


@cache
def _signed_types() -> frozenset[str]:
    """Those that the library can tell by a signature."""
    known = (*magic_header_array, *(part for parts in multi_part_dict.values() for part in parts))
    return frozenset(_ALIASES.get(sign.mime_type, sign.mime_type) for sign in known)
