"""Argon2id in a thread, a few at a time: each one takes 64 MiB and a good part of a core."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pwdlib import PasswordHash

from parley.core.errors import Overloaded

# More would take the processors from all that is not logging in.
CONCURRENT = 2
WAITING_MAX = 20


class Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHash.recommended()
        self._turnstile = asyncio.Semaphore(CONCURRENT)
        self._inside = 0
        self._nobodys: str | None = None
        self._making_nobodys = asyncio.Lock()

    async def hash(self, password: str) -> str:
        """
        Raises:
            Overloaded: too many wait already; each takes a tenth of a second and more.
        """
        async with self._admitted():
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """
        Without a hash the answer is no, and takes as long: who listens learns nothing.

        Raises:
            Overloaded: too many wait already.
        """
        async with self._admitted():
            nobodys = await self._nobodys_hash()
            matches = await asyncio.to_thread(
                self._hasher.verify, password, password_hash or nobodys
            )
        return matches and password_hash is not None

    async def _nobodys_hash(self) -> str:
        """Also for who has a hash of their own, or the first of them would be told apart by time."""
        async with self._making_nobodys:
            if self._nobodys is None:
                self._nobodys = await asyncio.to_thread(self._hasher.hash, "nobody's password")
            return self._nobodys

    @asynccontextmanager
    async def _admitted(self) -> AsyncGenerator[None]:
        if self._inside >= CONCURRENT + WAITING_MAX:
            msg = "Too many passwords are being checked at once. Try again shortly."
            raise Overloaded(msg)
        self._inside += 1
        try:
            async with self._turnstile:
                yield
        finally:
            self._inside -= 1
