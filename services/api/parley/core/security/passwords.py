"""Argon2id in a thread, a few at a time: each one takes 64 MiB and a good part of a core."""

import asyncio

from pwdlib import PasswordHash

CONCURRENT = 4


class Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHash.recommended()
        self._turnstile = asyncio.Semaphore(CONCURRENT)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        async with self._turnstile:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Without a hash the answer is no, and takes as long: who listens learns nothing."""
        if self._nobodys is None:
            self._nobodys = await self.hash("nobody's password")
        async with self._turnstile:
            matches = await asyncio.to_thread(
                self._hasher.verify, password, password_hash or self._nobodys
            )
        return matches and password_hash is not None
