"""The one secret, and the keys that are made of it."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from parley.core.settings import InvalidSettings

EMBEDDED_SECRET_FILE = Path("var/auth-secret")


def embedded_secret(path: Path = EMBEDDED_SECRET_FILE) -> str:
    """
    Made at the first start, read ever after; nobody but the owner may read the file.

    Raises:
        InvalidSettings: the file is empty, as a disk that failed may leave it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # Written whole under another name first: a crash leaves no half of a secret behind, and of
        # two processes that start at once the first one's counts.
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:
            draft.write(secrets.token_urlsafe(48))
            draft.flush()
            os.fsync(draft.fileno())
            with suppress(FileExistsError):
                os.link(draft.name, path)
    secret = path.read_text().strip()
    if not secret:
        raise InvalidSettings([f"AUTH_SECRET: {path} is empty; delete it for a new one"])
    return secret


def derive_key(secret: str, purpose: str) -> bytes:
    """32 bytes for one purpose, by HKDF-SHA256 (RFC 5869), so that no two uses share a key."""
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"parley {purpose}".encode())
    return hkdf.derive(secret.encode())
