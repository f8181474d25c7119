"""Tokens that say nothing: random, known to the store by their hash alone."""

import secrets
from hashlib import sha256

REFRESH_PREFIX = "parley_refresh_"
KEY_PREFIX = "parley_key_"
_SHOWN_CHARACTERS = len(KEY_PREFIX) + 5


def new_refresh_token() -> str:
    return REFRESH_PREFIX + secrets.token_urlsafe(32)


def new_key() -> str:
    """It begins with what a scanner for leaked secrets can be told to look for."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """
    SHA-256, in hexadecimal.

    Nothing slower is needed: 256 random bits are not guessed, as a password is.
    """
    return sha256(token.encode()).hexdigest()


def shown_part(key: str) -> str:
    """Enough of a key to tell it from others, and too little to guess the rest."""
    return key[:_SHOWN_CHARACTERS]
