"""Names of files, as clients give them: kept, but for what could mislead a reader or a program."""

import re
import unicodedata

BYTES_MAX = 255
"""As file systems have it."""
NAMELESS = "file"

# Joiners: names in Persian or Hindi need them, and so do some emoji.
_KEPT = {"\u200c", "\u200d"}
# Controls (NUL is refused before), lone surrogates, separators of lines, and marks that turn the order
# of letters round, or that nobody sees.
_DROPPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_EXTENSION = re.compile(r"\.\w{1,16}\Z")


def sanitised(name: str) -> str:
    """The last part of a path, of visible characters, and of at most 255 bytes in UTF-8."""
    visible = "".join(
        character
        for character in name
        if character in _KEPT or unicodedata.category(character) not in _DROPPED
    )
    last = re.split(r"[/\\]", visible)[-1].strip()
    return NAMELESS if not last.strip(". ") else _shortened(last)


def _shortened(name: str) -> str:
    """What it ends with says what it is, and stays."""
    if len(name.encode()) <= BYTES_MAX:
        return name
    found = _EXTENSION.search(name)
    extension = found[0].encode() if found else b""
    stem = name.encode()[: BYTES_MAX - len(extension)]
    return (stem + extension).decode(errors="ignore")
